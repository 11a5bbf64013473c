"""`gradgene query`: runs made by hand go in, what comes out is computed by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from gradgene.commands.line.options import split_list
from gradgene.commands.main import main
from gradgene.commands.query.add import read_run
from gradgene.errors import OutputError
from gradgene.provenance import file_hash
from gradgene.store import AttributionStore
from gradgene.store.shards import CONFIG_HASH

GENES = ("ISG15", "IFI6", "CD3E")
#: Of each pair its input cell, and scores (forward, backward) of its genes.
PAIRS = {
    0: ("c1", {"ISG15": (3.0, -1.0), "IFI6": (4.0, 2.0), "@disease": (9.0, 9.0)}),
    1: ("c2", {"ISG15": (1.0, 0.0), "@disease": (9.0, 9.0)}),
    2: ("c1", {"CD3E": (-2.0, 4.0), "IFI6": (0.0, 3.0), "@disease": (9.0, 9.0)}),
}
#: Mean contrast (F - R) / 2 of c1 over its two pairs, and of c2.
CONTRAST = np.array([[1.0, -0.25, -1.5], [0.5, 0.0, 0.0]])


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run the command; returns the exit code, and what it wrote with runs of spaces made one."""
    monkeypatch.setenv("COLUMNS", "300")

    def call(*words: str) -> tuple[int, str]:
        code = main(["query", *map(str, words)])
        out, err = capsys.readouterr()
        return code, " ".join((out + err).split())

    return call


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run, which tests only read."""
    folder = tmp_path_factory.mktemp("made")
    scores, obs, var, facts = read_run(make_run(folder / "run"))
    AttributionStore(folder / "store").append(scores, obs, var, facts)
    return folder / "store"


def make_run(
    run: Path,
    *,
    scores: np.ndarray = CONTRAST,
    config_hash: str = "c0ffee",
    importance: str | None = None,
    normalize: str = "none",
    method: str = "gim",
    prefix: str = "",
) -> Path:
    """A finished run with the scores of `PAIRS`, in two shards; cells are called with `prefix`."""
    folder = run / "attributions"
    (folder / "pairs").mkdir(parents=True)
    config = {
        "attribution": {"target_kind": "margin", "normalize": normalize},
        "ranking": {"importance": importance},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    provenance = {"data": {"path": "cells.h5ad", "sha256": f"{config_hash}" * 4}}
    (run / "provenance.json").write_text(json.dumps(provenance))
    shards = [
        write_shard(folder / "pairs", n, pairs, config_hash) for n, pairs in ((0, [2, 0]), (1, [1]))
    ]
    about = {
        "config_hash": config_hash,
        "n_pairs": 3,
        "skipped": [],
        "genes": GENES,
        "shards": shards,
    }
    (folder / "pairs" / "manifest.json").write_text(json.dumps(about))
    inputs = [f"{prefix}{name}" for name, _ in PAIRS.values()]
    pd.DataFrame({"pair": [*PAIRS], "input": inputs, "baseline": "b"}).to_parquet(
        folder / "pairs.parquet"
    )
    cells = {
        "cell": [f"{prefix}{c}" for c in ("b", "c2", "c1")],
        "donor": ["d0", "d2", "d1"],
        "cell_type": pd.Categorical(["B cell", "T cell", "B cell"]),
        "disease": ["normal", "case", "case"],
    }
    pd.DataFrame(cells).to_parquet(folder / "cells.parquet")
    table = pd.DataFrame(
        {"gene": [*GENES, "@disease"], "ensembl_id": ["ENSG1", None, "ENSG3", None]}
    )
    mean_g = np.append((scores * [[2], [1]]).sum(axis=0) / 3, 9.0)
    facts = {
        "method": method,
        "baseline": "cell_state",
        "target": "disease: case against normal",
        "model": "m",
        "config_hash": config_hash,
    }
    table.assign(score=mean_g, **facts).to_parquet(folder / "genes.parquet")
    return run


def write_shard(folder: Path, number: int, pairs: list[int], config_hash: str) -> dict[str, object]:
    rows = [(p, g, *both) for p in pairs for g, both in PAIRS[p][1].items()]
    frame = pd.DataFrame(rows, columns=["pair", "gene", "forward", "backward"])
    frame = frame.assign(embedding=0.0, presence=np.nan)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), CONFIG_HASH: config_hash.encode()}
    file = folder / f"part-000-{number:05d}.parquet"
    pq.write_table(table.replace_schema_metadata(metadata), file)
    return {
        "file": file.name,
        "rows": len(frame),
        "pairs": sorted(pairs),
        "sha256": file_hash(file),
    }


def unit(value: float, *others: float) -> float:
    return value / np.sqrt(value**2 + sum(o**2 for o in others))


#: Mean of both directions, each divided by the length of its pair's gene scores.
PAPER_MEAN = np.array(
    [
        [
            (0.6 + unit(-1, 2)) / 4,
            (0.8 + unit(2, -1) + unit(3, 4)) / 4,
            (-1 + unit(4, 3)) / 4,
        ],
        [0.5, 0.0, 0.0],
    ]
)
FORWARD = np.array([[1.5, 2.0, -1.0], [1.0, 0.0, 0.0]])
UNIT_FORWARD = np.array([[0.3, 0.4, -0.5], [1.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, CONTRAST),  # the importance of an asymmetric method where none is configured
        ({"importance": "forward"}, FORWARD),
        ({"importance": "backward"}, np.array([[-0.5, 2.5, 2.0], [0.0, 0.0, 0.0]])),
        ({"importance": "paper_mean"}, PAPER_MEAN),
        ({"importance": "forward", "normalize": "l2"}, UNIT_FORWARD),
        ({"method": "grad_x_delta"}, CONTRAST),
    ],
)
def test_a_run_by_hand(tmp_path: Path, given: dict[str, str], expected: np.ndarray) -> None:
    run = make_run(tmp_path / "run", scores=expected, **given)  # type: ignore[arg-type]
    scores, obs, var, facts = read_run(run)
    np.testing.assert_allclose(scores.toarray(), expected, atol=1e-12)
    assert list(obs.index) == ["c1", "c2"] and list(obs["donor"]) == ["d1", "d2"]
    assert list(var.index) == list(GENES) and list(var["ensembl_id"])[::2] == ["ENSG1", "ENSG3"]
    assert facts.importance == given.get("importance", "contrast")
    assert facts.method == given.get("method", "gim") and facts.data == "c0ffeec0ffee"


def test_add_info_drop(tmp_path: Path, said: Callable[..., tuple[int, str]]) -> None:
    runs = [
        make_run(tmp_path / "one"),
        make_run(tmp_path / "two", config_hash="2", prefix="x"),
    ]
    store = f"store={tmp_path / 'store'}"
    code, text = said("add", *runs, store)
    assert code == 0 and text.count("2 cells x 3 genes, 66.7% not 0; gim/contrast") == 2
    code, text = said("add", runs[0], store)
    assert code == 2 and "holds the same run" in text and "replace=true" in text
    assert said("add", runs[0], store, "replace=true")[0] == 0
    code, text = said("info", store)
    assert code == 0 and "2 parts of" in text and str(tmp_path / "two") in text
    key = AttributionStore(tmp_path / "store").parts[0].key
    assert said("drop", key, store) == (0, f"dropped part {key}")
    code, text = said("drop", key, store)
    assert code == 2 and f"no part '{key}'" in text
    assert len(AttributionStore(tmp_path / "store").parts) == 1


def test_a_compared_method(tmp_path: Path, said: Callable[..., tuple[int, str]]) -> None:
    """A compared method's table is of its default importance, whatever the main one's is."""
    run = make_run(tmp_path / "run", importance="forward", scores=FORWARD)
    other = make_run(tmp_path / "other", method="gim")
    (other / "attributions").rename(run / "attributions" / "gim")
    store = f"store={tmp_path / 'store'}"
    assert "gim/contrast" in said("add", run, store, "method=gim")[1]
    assert "gim/forward" in said("add", run, store)[1]  # a part of its own
    code, text = said("cells", "genes=IFI6", store)
    assert "parts differ in importance: their scores have no common unit" in text
    key = AttributionStore(tmp_path / "store").parts[1].key
    code, text = said("cells", "genes=IFI6", store, f"parts={key}")
    assert code == 0 and "best 2 of 2 cells" in text and "differ" not in text
    code, text = said("add", run, store, "method=gym")
    assert code == 2 and "no compared method 'gym'; expected one of 'gim'" in text


def test_cells(tmp_path: Path, said: Callable[..., tuple[int, str]]) -> None:
    store = f"store={tmp_path / 'store'}"
    said("add", make_run(tmp_path / "run"), store)
    out = tmp_path / "all.csv"
    code, text = said("cells", "genes=ISG15, CD3E", "weights=3,1", store, "n=1", f"out={out}")
    assert code == 0, text
    assert "best 1 of 2 cells" in text and "c1 │ 0.375" in text and "written" in text
    written = pd.read_csv(out)
    assert written["cell"].tolist() == ["c1", "c2"]
    np.testing.assert_allclose(written["score"], [(3 - 1.5) / 4, 1.5 / 4])
    code, text = said("cells", "genes=ENSG1", store, "where.cell_type=T cell", "columns=donor")
    assert code == 0 and "c2 │ 0.5 │ d2 │" in text and "c1" not in text
    parquet = tmp_path / "all.parquet"
    assert said("cells", "genes=IFI6,NOPE", store, "missing=skip", f"out={parquet}")[0] == 0
    assert pd.read_parquet(parquet)["score"].tolist() == [-0.25, 0.0]
    gmt = tmp_path / "sets.gmt"
    gmt.write_text("INTERFERON\thttp\tISG15\tIFI6\tMX1\n")
    code, text = said("cells", f"genes={gmt}", "set=INTERFERON", store)
    assert code == 0 and "67% of the weight, lacks MX1" in text and "c2 │ 0.25 │" in text


def test_hits(tmp_path: Path, said: Callable[..., tuple[int, str]]) -> None:
    store = f"store={tmp_path / 'store'}"
    said("add", make_run(tmp_path / "run"), store)
    words = ["hits", "genes=ISG15", "sample=donor", "label=disease", store]
    out = tmp_path / "hits.csv"
    code, text = said(*words, "min_cells=1", "share=0.5", f"out={out}")
    assert code == 0 and "label has fewer than 3 samples that count" in text
    assert pd.read_csv(out)[["sample", "hits"]].values.tolist() == [["d1", 1.0], ["d2", 0.0]]
    code, text = said(*words)
    assert code == 0 and "fewer than 25 cells" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs an action"),
        (["cell"], "one of 'cells'"),
        (["info"], "store: is missing"),
        (["info", "more", "STORE"], "takes no further words; found more"),
        (["add", "STORE"], "needs a RUN"),
        (["drop", "STORE"], "needs a PART"),
        (["cells", "STORE"], "genes: is missing"),
        (["cells", "STORE", "genes=A", "gene=B"], "gene: no such setting"),
        (["info", "STORE", "where.a=b"], "where.a: no such setting"),
        (["cells", "STORE", "genes=A", "genes=B"], "genes: is given twice"),
        (["cells", "STORE", "genes="], "genes: has no value"),
        (["cells", "STORE", "genes=IFI6", "n=x"], "n: is no whole number; found x"),
        (["cells", "STORE", "genes=IFI6", "n=0"], "n: is too small"),
        (["cells", "STORE", "genes=IFI6", "weights=a"], "weights: is no number"),
        (["cells", "STORE", "genes=IFI6", "missing=x"], "missing: no such choice"),
        (["cells", "STORE", "genes=IFI6", "out=a.txt"], "neither CSV nor parquet"),
        (["cells", "STORE", "genes=ifi6"], "closest for 'ifi6' 'IFI6'"),
        (["cells", "STORE", "genes=IFI6", "where.x=y"], "no part of the store has an obs column"),
        (["cells", "STORE", "genes=a.gmt"], "go together"),
        (["cells", "STORE", "genes=a.gmt", "set=b", "weights=1"], "listed one by one"),
        (["hits", "STORE", "genes=IFI6"], "sample: is missing"),
        (["hits", "STORE", "genes=IFI6", "sample=x", "label=disease"], "obs column 'x'"),
        (["hits", "STORE", "genes=IFI6", "sample=donor", "label=disease", "share=2"], "no share"),
        (["hits", "STORE", "genes=IFI6", "sample=donor", "label=disease", "pooled=1"], "true or"),
        (["cells", "store=nowhere", "genes=IFI6"], "holds no attributions"),
    ],
)
def test_mistakes_are_one_line(
    store: Path, said: Callable[..., tuple[int, str]], words: list[str], message: str
) -> None:
    code, text = said(*[f"store={store}" if w == "STORE" else w for w in words])
    assert code == 2 and text.startswith("gradgene: error: ") and message in text


def no_config(run: Path) -> None:
    (run / "config.yaml").unlink()


def no_table(run: Path) -> None:
    (run / "attributions" / "genes.parquet").unlink()


def no_pairs(run: Path) -> None:
    for file in (run / "attributions" / "pairs").iterdir():
        file.unlink()
    (run / "attributions" / "pairs").rmdir()


def no_shard(run: Path) -> None:
    next((run / "attributions" / "pairs").glob("part-*")).unlink()


def no_cells(run: Path) -> None:
    (run / "attributions" / "cells.parquet").unlink()


def fewer_cells(run: Path) -> None:
    file = run / "attributions" / "cells.parquet"
    pd.read_parquet(file).iloc[:2].to_parquet(file)


def other_table(run: Path) -> None:
    file = run / "attributions" / "genes.parquet"
    pd.read_parquet(file).assign(config_hash="other").to_parquet(file)


def other_scores(run: Path) -> None:
    file = run / "attributions" / "genes.parquet"
    table = pd.read_parquet(file)
    table.assign(score=table["score"] * 1.01).to_parquet(file)


def fewer_pairs(run: Path) -> None:
    file = run / "attributions" / "pairs.parquet"
    pd.read_parquet(file).iloc[:2].to_parquet(file)


def no_provenance(run: Path) -> None:
    (run / "provenance.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_config, "is not the folder of a run"),
        (no_table, "genes.parquet: is missing"),
        (no_pairs, "were not saved.*attribution.save=pairs"),
        (no_shard, "a shard is missing"),
        (no_cells, "cells.parquet: is missing.*attribution.save=pairs"),
        (fewer_cells, "does not name every input cell once"),
        (other_table, "of different configurations"),
        (other_scores, "the mean over pairs is not the score"),
        (fewer_pairs, "has no such pair; found pair 2"),
        (no_provenance, "which data"),
    ],
)
def test_runs_that_cannot_be_added(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    run = make_run(tmp_path / "run")
    damage(run)
    with pytest.raises(OutputError, match=message):
        read_run(run)


def test_labels_with_commas() -> None:
    found = split_list("CD4-positive, alpha-beta T cell,B cell,B cell")
    assert found == ("CD4-positive, alpha-beta T cell", "B cell")


def test_help_has_examples(said: Callable[..., tuple[int, str]]) -> None:
    code, text = said("--help")
    assert code == 0 and "query cells genes=ISG15,IFI6 store=DIR" in text
