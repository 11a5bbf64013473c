"""Time queries of a store of 200,000 cells x 2,000 genes, in one part and in ten.

    python experiments/speed/query/measure.py            # a few minutes; needs 1.5 GB of disk

The scores are random: genes have 0.5 to 60 % of the cells, 14 % on average. Every repetition is a
process of its own; "cold" is its first query, "warm" the median of five more. The result is
compared with the weighted mean of the columns in memory. Writes `figures.csv` beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

N_CELLS, N_GENES, N_ASKED = 200_000, 2_000, 50
PARTS, REPEATS, WARM = (1, 10), 3, 5


def make_scores(rng: np.random.Generator) -> sparse.csc_matrix:
    """(cells, genes) random scores, gene by gene."""
    share_g = rng.beta(0.6, 3.4, N_GENES)
    rows = [np.flatnonzero(rng.random(N_CELLS, np.float32) < share) for share in share_g]
    indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])])
    data = rng.standard_normal(indptr[-1], np.float32)
    return sparse.csc_matrix((data, np.concatenate(rows), indptr), shape=(N_CELLS, N_GENES))


def build(folder: Path) -> list[dict[str, float]]:
    """Write the stores, the genes asked for and what the query should give."""
    from gradgene.store import AttributionStore, PartFacts

    rng = np.random.default_rng(0)
    scores = make_scores(rng)
    asked = np.sort(rng.choice(N_GENES, N_ASKED, replace=False))
    weights = rng.uniform(0.5, 2, N_ASKED)
    expected = np.asarray(scores[:, asked].astype(np.float64) @ weights).ravel() / weights.sum()
    np.savez(folder / "expected.npz", genes=asked, weights=weights, scores=expected)
    donors, kinds = rng.integers(0, 40, N_CELLS), rng.integers(0, 12, N_CELLS)
    obs = pd.DataFrame(
        {
            "donor_id": pd.Categorical([f"donor {d}" for d in donors]),
            "cell_type": pd.Categorical([f"type {k}" for k in kinds]),
            "disease": pd.Categorical(np.where(donors % 2, "case", "normal")),
        },
        index=[f"cell-{i}" for i in range(N_CELLS)],
    )
    var = pd.DataFrame(index=[f"gene-{i}" for i in range(N_GENES)])
    by_cell, found = scores.tocsr(), []
    for n_parts in PARTS:
        store, seconds = AttributionStore(folder / str(n_parts)), 0.0
        for number, rows in enumerate(np.array_split(np.arange(N_CELLS), n_parts)):
            part = by_cell[rows[0] : rows[-1] + 1].tocsc()
            name = f"run {number}"
            facts = PartFacts(name, name, name, "model", "gim", "contrast", "disease")
            started = time.perf_counter()
            store.append(part, obs.iloc[rows], var, facts)
            seconds += time.perf_counter() - started
        files = [f for f in store.folder.rglob("*") if f.is_file()]
        found.append(
            {
                "parts": n_parts,
                "append_s": seconds,
                "disk_mb": sum(f.stat().st_size for f in files) / 1e6,
                "files": len(files),
                "stored_million": scores.nnz / 1e6,
            }
        )
    return found


def peak_mb() -> float:
    """Most memory that this process had, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def once(folder: Path, n_parts: int) -> dict[str, float]:
    """One process: import, first query, five more, hits."""
    started = time.perf_counter()
    from gradgene.store import AttributionStore

    imported = time.perf_counter()
    memory = peak_mb()
    with np.load(folder / "expected.npz") as known:
        genes, weights, expected = known["genes"], known["weights"], known["scores"]
    names, times, processor = [f"gene-{g}" for g in genes], [], []
    for _ in range(1 + WARM):
        begun, begun_cpu = time.perf_counter(), time.process_time()
        scores = AttributionStore(folder / str(n_parts)).query(names, weights)
        scores.top(20)
        times.append(time.perf_counter() - begun)
        processor.append(time.process_time() - begun_cpu)
    begun = time.perf_counter()
    scores.hits("donor_id", "disease")
    return {
        "parts": n_parts,
        "import_s": imported - started,
        "cold_s": times[0],
        "warm_s": float(np.median(times[1:])),
        "warm_processor_s": float(np.median(processor[1:])),
        "hits_s": time.perf_counter() - begun,
        "max_difference": float(np.abs(scores.cells["score"].to_numpy() - expected).max()),
        "peak_mb": peak_mb(),
        "import_mb": memory,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Build both stores in a temporary folder, query each in fresh processes, write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--once", nargs=2, metavar=("FOLDER", "PARTS"))
    given = parser.parse_args().once
    if given:
        print(json.dumps(once(Path(given[0]), int(given[1]))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        built = pd.DataFrame(build(Path(temporary)))
        print(built.round(2).to_string(index=False), flush=True)
        rows = []
        for repeat in range(REPEATS):
            for n_parts in PARTS:
                words = [sys.executable, __file__, "--once", temporary, str(n_parts)]
                said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
                rows.append({"repeat": repeat, **json.loads(said)})
    table = pd.DataFrame(rows).merge(built, on="parts")
    table.to_csv(Path(__file__).with_name("figures.csv"), index=False)
    print(table.groupby("parts").median().T.to_string())


if __name__ == "__main__":
    main()
