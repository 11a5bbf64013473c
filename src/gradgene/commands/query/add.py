"""`gradgene query add`: the scores of a finished run's pairs as rows of a store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
import yaml
from rich.console import Console
from scipy import sparse

from gradgene.errors import OutputError, closest
from gradgene.genes import Importance, default_importance
from gradgene.provenance import settings_hash
from gradgene.store import AttributionStore, PairScores, PartFacts, read_pair_scores

__all__ = ["add", "mean_scores", "read_run"]

#: Entries collected before they are summed: bounds the memory, and sums seldom.
PENDING = 5_000_000
SAVE = "run `gradgene attribute` again with attribution.save=pairs"
#: Largest difference between the mean over all pairs and the run's table, in largest scores.
TOLERANCE = 1e-4


def add(
    console: Console,
    store: AttributionStore,
    runs: Sequence[str],
    method: str | None,
    replace: bool,
) -> None:
    """Append runs one by one; those before one that is refused stay.

    Raises
    ------
    OutputError
        As `read_run` and `AttributionStore.append`.
    """
    for run in runs:
        scores, obs, var, facts = read_run(Path(run).expanduser(), method)
        key = store.append(scores, obs, var, facts, replace_part=replace)
        share = scores.nnz / (scores.shape[0] * scores.shape[1])
        console.print(
            f"{run}: part {key}, {scores.shape[0]} cells x {scores.shape[1]} genes, "
            f"{share:.1%} not 0; {facts.method}/{facts.importance}, {facts.target}"
        )


def read_run(
    run: Path, method: str | None = None
) -> tuple[sparse.csr_matrix, pd.DataFrame, pd.DataFrame, PartFacts]:
    """Scores, obs, var and facts of one method of a finished run.

    Parameters
    ----------
    run
        Folder of the run.
    method
        Of `study.compare`; None for the main method.

    Raises
    ------
    OutputError
        If the folder holds no finished attribution, its pairs were not saved, or its files do not
        belong together.
    """
    if not (run / "config.yaml").is_file():
        raise OutputError(
            "is not the folder of a run",
            where=str(run),
            expected="a folder with config.yaml, as `gradgene study` leaves it",
        )
    folder = _table_folder(run, method)
    table = _table(folder / "genes.parquet", "run `gradgene attribute` first")
    if not (folder / "pairs").is_dir():
        raise OutputError("scores of single pairs were not saved", where=str(run), fix=SAVE)
    pairs = read_pair_scores(folder / "pairs")
    said = {name: str(table[name].iloc[0]) for name in ("config_hash", "target", "model")}
    if pairs.config_hash != said["config_hash"]:
        raise OutputError(
            "pairs and gene table are of different configurations",
            where=str(folder),
            expected=said["config_hash"],
            found=pairs.config_hash,
            fix=SAVE,
        )
    config = yaml.safe_load((run / "config.yaml").read_text())
    importance, normalise = _importance(config, table, is_main=folder == run / "attributions")
    ledger = _table(folder / "pairs.parquet", SAVE)
    scores, cells, n_pairs = mean_scores(pairs, ledger, importance, normalise)
    _require_same(scores, n_pairs, pairs.genes, table, folder)
    obs = _obs(run / "attributions" / "cells.parquet", cells)
    ids = table.set_index("gene").get("ensembl_id", pd.Series(dtype=object))
    var = pd.DataFrame({"ensembl_id": ids.reindex(list(pairs.genes))})
    facts = PartFacts(
        run=str(run.resolve()),
        config_hash=said["config_hash"],
        data=_data_identity(run / "provenance.json"),
        model=said["model"],
        method=importance.method,
        importance=importance.name,
        target=said["target"],
    )
    return scores, obs, var, facts


def mean_scores(
    pairs: PairScores, ledger: pd.DataFrame, importance: Importance, normalise: bool
) -> tuple[sparse.csr_matrix, pd.Index, np.ndarray]:
    """Mean importance over the pairs of every input cell.

    Parameters
    ----------
    pairs
        The scores, pair by pair.
    ledger
        Columns `pair` and `input` (name of the cell).
    importance, normalise
        How both directions are combined, and whether each is first divided by its L2 norm over the
        pair's genes (`paper_*` importances always are).

    Returns
    -------
    tuple
        (cells, genes of `pairs`) CSR float64, names of the cells, (cells,) pairs of each.

    Raises
    ------
    OutputError
        If a pair is not in the ledger.
    """
    scored = ledger[~ledger["pair"].isin(pairs.skipped)]
    place = pd.Index(scored["pair"])
    row_p, cells = pd.factorize(scored["input"].astype(str))
    total = sparse.csr_matrix((len(cells), len(pairs.genes)))
    pending: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for pair, gene, value in _values(pairs, importance, normalise or importance.normalised):
        position = place.get_indexer(pair)
        if (position < 0).any():
            raise OutputError(
                "has no such pair",
                where="pairs.parquet",
                found=f"pair {pair[position < 0][0]}",
                fix=SAVE,
            )
        pending.append((row_p[position], gene, value))
        if sum(len(p[0]) for p in pending) > PENDING:
            total, pending = total + _summed(pending, total.shape), []
    total = total + _summed(pending, total.shape)
    n_pairs = np.bincount(row_p, minlength=len(cells))
    return sparse.csr_matrix(sparse.diags_array(1 / n_pairs) @ total), pd.Index(cells), n_pairs


def _values(
    pairs: PairScores, importance: Importance, normalise: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of every shard, pair, gene number and importance of each gene token."""
    genes = pd.Index(pairs.genes)
    for frame in pairs.frames():
        gene = genes.get_indexer(pd.Index(frame["gene"]))
        kept = gene >= 0  # phenotype tokens are no genes
        pair, gene = frame["pair"].to_numpy()[kept], gene[kept]
        both = [frame[d].to_numpy(dtype=np.float64)[kept] for d in ("forward", "backward")]
        if normalise:  # a pair lies in one shard, so that its norm is known here
            number, _ = pd.factorize(pair)
            norms = [np.sqrt(np.bincount(number, values**2)) for values in both]
            both = [v / np.where(n > 0, n, 1.0)[number] for v, n in zip(both, norms, strict=True)]
        forward, backward = (torch.from_numpy(values) for values in both)
        yield pair, gene, importance.combine(forward, backward).numpy()


def _summed(
    pending: list[tuple[np.ndarray, np.ndarray, np.ndarray]], shape: tuple[int, int]
) -> sparse.csr_matrix:
    if not pending:
        return sparse.csr_matrix(shape)
    row, gene, value = (np.concatenate(pieces) for pieces in zip(*pending, strict=True))
    return sparse.csr_matrix((value, (row, gene)), shape=shape)


def _importance(
    config: Mapping[str, Any], table: pd.DataFrame, is_main: bool
) -> tuple[Importance, bool]:
    """The importance that makes the run's gene table, and whether pairs are normalised for it."""
    attribution, ranking = config.get("attribution") or {}, config.get("ranking") or {}
    method, baseline = (str(table[name].iloc[0]) for name in ("method", "baseline"))
    chosen = ranking.get("importance") if is_main else None
    name = chosen or default_importance(method, baseline)
    kind = str(attribution.get("target_kind", "margin"))
    return Importance(name, method, baseline, kind), attribution.get("normalize") == "l2"


def _require_same(
    scores: sparse.csr_matrix,
    n_pairs: np.ndarray,
    genes: Sequence[str],
    table: pd.DataFrame,
    folder: Path,
) -> None:
    """The mean over all pairs must be the score of the run's table, or something is mixed up."""
    mean_g = pd.Series((n_pairs @ scores) / n_pairs.sum(), index=list(genes))
    rows = table[table["gene"].isin(mean_g.index)]
    said_g = rows["score"].to_numpy(dtype=np.float64)
    apart = np.abs(mean_g.loc[rows["gene"]].to_numpy() - said_g).max(initial=0)
    largest = np.abs(said_g).max(initial=0)
    if not apart <= TOLERANCE * largest:
        raise OutputError(
            "the mean over pairs is not the score of the gene table",
            where=str(folder),
            expected=f"a difference up to {TOLERANCE:g} of the largest score",
            found=f"{apart:.3g} where the largest is {largest:.3g}",
            fix=SAVE,
        )


def _obs(file: Path, cells: pd.Index) -> pd.DataFrame:
    """The obs columns of these cells, in their order."""
    obs = _table(file, SAVE).set_index("cell")
    obs.index = obs.index.astype(str)
    if not obs.index.is_unique or not cells.isin(obs.index).all():
        raise OutputError("does not name every input cell once", where=str(file), fix=SAVE)
    return obs.loc[cells]


def _table_folder(run: Path, method: str | None) -> Path:
    main = run / "attributions"
    if method is None or (main / method / "genes.parquet").is_file():
        return main / method if method else main
    compared = sorted(file.parent.name for file in main.glob("*/genes.parquet"))
    raise OutputError(
        f"has no compared method {method!r}",
        where=str(run),
        expected=f"one of {closest(method, compared)}; without method= the main one",
    )


def _table(file: Path, fix: str) -> pd.DataFrame:
    if not file.is_file():
        raise OutputError("is missing", where=str(file), fix=fix)
    try:
        table = pd.read_parquet(file)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise OutputError("is no parquet file", where=str(file), found=str(error)) from error
    if table.empty:
        raise OutputError("is empty", where=str(file), fix=fix)
    return table


def _data_identity(file: Path) -> str:
    """Hash of the data file, or of those of several, from a run's provenance."""
    data = json.loads(file.read_text()).get("data") if file.is_file() else None
    if isinstance(data, dict) and data.get("sha256"):
        return str(data["sha256"])[:12]
    if not data:
        raise OutputError("does not say which data the run is of", where=str(file))
    return settings_hash([entry.get("sha256") or entry["stamp"] for entry in data])
