"""A part is whole or not there, queries equal brute force, hits are counted by sample."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from gradgene.errors import ConfigError, LabelError, OutputError
from gradgene.store import AttributionStore, PartFacts, parts
from tests.forked import Forked

FACTS = PartFacts("runs/a", "c0ffee", "data1", "m.ckpt", "gim", "contrast", "disease: a against b")
#: Two cells x three genes, small enough to check by eye.
TOY = np.array([[1.0, 0.0, -2.0], [0.0, 4.0, 0.5]])


def table(names: list[str], **columns: object) -> pd.DataFrame:
    return pd.DataFrame(columns, index=pd.Index(names, dtype=object))


@pytest.fixture(scope="module", autouse=True)
def no_flush() -> Iterator[None]:
    """Nothing here has to survive a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_flush", lambda path: None)
        yield


def toy(folder: Path, **facts: str) -> AttributionStore:
    """A store of one part."""
    store = AttributionStore(folder)
    append_toy(store, False, **facts)
    return store


def append_toy(store: AttributionStore, replace_part: bool = False, **facts: str) -> str:
    obs = table(["c1", "c2"], cell_type=["B cell", "T cell"], age=[30.0, 50.0])
    var = table(["ISG15", "IFI6", "CD3E"], ensembl_id=["ENSG1", None, "ENSG3"])
    made = PartFacts(**{**asdict(FACTS), **facts})
    return store.append(sparse.csr_matrix(TOY), obs, var, made, replace_part=replace_part)


@pytest.fixture(scope="module")
def toy_store(tmp_path_factory: pytest.TempPathFactory) -> AttributionStore:
    """A store of one part that tests only read."""
    return toy(tmp_path_factory.mktemp("toy"))


def folders(store: AttributionStore) -> list[str]:
    """Everything in the store's folder but its lock."""
    return sorted(p.name for p in store.folder.iterdir() if p.name != ".lock")


def test_a_part_is_anndata(tmp_path: Path) -> None:
    store = toy(tmp_path / "store")
    (name,) = folders(store)
    read = ad.read_zarr(tmp_path / "store" / name)
    assert sparse.isspmatrix_csc(read.X) or read.X.format == "csc"
    assert read.X.dtype == np.float32
    np.testing.assert_array_equal(read.X.toarray(), TOY.astype(np.float32))
    assert list(read.obs_names) == ["c1", "c2"] and list(read.var_names)[1] == "IFI6"
    assert list(read.obs["cell_type"]) == ["B cell", "T cell"]
    said = read.uns["gradgene"]
    assert said["config_hash"] == "c0ffee" and said["importance"] == "contrast"
    assert said["gradgene"] and said["added"].endswith("+00:00")
    info = store.info()
    assert info[["n_cells", "n_genes", "run"]].values.tolist() == [[2, 3, "runs/a"]]


def test_weighted_mean_by_hand(toy_store: AttributionStore) -> None:
    store = toy_store
    scores = store.query(["CD3E", "ISG15"], [3.0, 1.0])
    np.testing.assert_allclose(scores.cells["score"], [(1 - 6) / 4, 1.5 / 4])
    assert list(scores.cells.columns) == ["part", "cell", "score", "cell_type", "age"]
    against = store.query(["ENSG1", "IFI6"], [1.0, -1.0])  # an Ensembl id, a negative weight
    np.testing.assert_allclose(against.cells["score"], [0.5, -2.0])
    assert against.top(1)["cell"].tolist() == ["c1"]
    assert len(against.top(10)) == 2
    one = store.query(["IFI6"], where={"cell_type": ["T cell"]}, columns=[])
    assert one.to_pandas().drop(columns="part").values.tolist() == [["c2", 4.0]]


def test_genes_that_a_part_lacks(tmp_path: Path) -> None:
    store = toy(tmp_path)
    store.append(
        np.full((1, 2), 2.0),
        table(["x"], cell_type=["B cell"], cell=["own"]),
        table(["IFI6", "MX1"]),
        PartFacts(**{**asdict(FACTS), "data": "data2"}),
    )
    scores = store.query(["IFI6", "MX1"], [1.0, 3.0])
    assert scores.cells["score"].tolist() == [0.0, 4.0, 2.0]  # weights of what there is add up to 1
    assert scores.coverage["coverage"].tolist() == [0.25, 1.0]
    assert scores.coverage["missing"].tolist() == ["MX1", ""]
    assert scores.cells["obs.cell"].tolist()[2] == "own" and scores.cells["age"].isna().tolist()[2]
    only = store.query(["MX1"])  # the first part has none of the genes: its cells have no score
    assert only.cells["cell"].tolist() == ["x"]
    assert only.coverage[["coverage", "n_cells"]].values.tolist() == [[0, 0], [1, 1]]
    with pytest.raises(ConfigError, match=r"1 of 2 genes are in no part.*closest.*'MX1'.*mx1|MX1"):
        store.query(["mx1", "IFI6"])
    some = store.query(["mx1", "IFI6"], missing="skip")
    assert some.coverage["coverage"].tolist() == [0.5, 0.5]
    first, second = (part.key for part in store.parts)
    assert store.query(["IFI6"], parts=[second]).cells["cell"].tolist() == ["x"]
    assert store.query(["IFI6"], parts=[first]).cells.columns.tolist()[3:] == ["cell_type", "age"]
    with pytest.raises(OutputError, match=rf"no part 'ab'.*{first}"):
        store.query(["IFI6"], parts=["ab"])
    with pytest.raises(ConfigError, match="2 of 2 genes are in no part"):
        store.query(["A", "B"], missing="skip")


@pytest.mark.parametrize(
    ("genes", "weights", "message"),
    [
        ([], None, "names no gene"),
        (["IFI6", "IFI6"], None, "names a gene twice"),
        (["ISG15", "ENSG1"], None, "a gene twice; found ISG15 and ENSG1"),
        (["IFI6"], [1.0, 2.0], "expected 1 numbers; found 2"),
        (["IFI6"], [0.0], "finite and not 0"),
        (["IFI6"], [float("nan")], "finite and not 0"),
    ],
)
def test_gene_sets_are_checked(
    toy_store: AttributionStore, genes: list[str], weights: list[float] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        toy_store.query(genes, weights)


def test_filters_are_checked(tmp_path: Path, toy_store: AttributionStore) -> None:
    store = toy_store
    with pytest.raises(LabelError, match=r"obs column 'celltype'.*'cell_type'"):
        store.query(["IFI6"], where={"celltype": ["B cell"]})
    with pytest.raises(LabelError, match=r"the label 'B'.*'B cell'"):
        store.query(["IFI6"], where={"cell_type": ["B"]})
    with pytest.raises(LabelError, match="no cell is left"):
        store.query(["IFI6"], where={"cell_type": ["B cell"], "age": ["50"]})
    with pytest.raises(LabelError, match="obs column 'x'"):
        store.query(["IFI6"], columns=["x"])
    with pytest.raises(ConfigError, match="n: is too small"):
        store.query(["IFI6"]).top(0)
    with pytest.raises(OutputError, match=r"holds no attributions.*no such folder"):
        AttributionStore(tmp_path / "none").query(["IFI6"])


NAMES = [f"g{i}" for i in range(12)]


def check_against_brute_force(folder: Path, seed: int, asked: list[str], n_parts: int) -> None:
    """Parts with different genes, random weights, a filter, reads that cross chunks."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(-2, 2, len(asked)) + 0.001
    wanted = [["a"], ["a", "b"], ["a", "b", "c"]][seed % 3]
    store, expected, known = AttributionStore(folder), [], set()
    for number in range(n_parts):
        genes = rng.permutation(NAMES)[: rng.integers(1, len(NAMES) + 1)].tolist()
        n = int(rng.integers(3, 10))
        dense = rng.normal(size=(n, len(genes))) * (rng.random((n, len(genes))) < 0.5)
        labels = np.array(["a", "b", "c"])[(np.arange(n) + number) % 3]
        names = [f"{number}-{i}" for i in range(n)]
        facts = PartFacts(**{**asdict(FACTS), "data": str(number)})
        store.append(dense, table(names, label=labels), table(genes), facts)
        known |= set(genes)
        for i in range(n):
            here = [(genes.index(g), w) for g, w in zip(asked, weights, strict=True) if g in genes]
            if here and labels[i] in wanted:
                norm = sum(abs(w) for _, w in here)
                value = sum(np.float32(dense[i, j]) * w for j, w in here) / norm
                expected.append((names[i], value, labels[i]))
    if not known & set(asked):
        with pytest.raises(ConfigError, match="in no part"):
            store.query(asked, weights.tolist(), missing="skip")
        return
    found = store.query(asked, weights.tolist(), where={"label": wanted}, missing="skip")
    assert found.cells["cell"].tolist() == [name for name, _, _ in expected]
    assert found.cells["label"].tolist() == [label for _, _, label in expected]
    np.testing.assert_allclose(found.cells["score"], [v for _, v, _ in expected], atol=1e-12)
    assert found.top(3)["score"].tolist() == found.cells["score"].nlargest(3).tolist()


@pytest.fixture(scope="module")
def small_chunks() -> Iterator[None]:
    """Chunks and reads of a few entries."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("CHUNK", 7), ("GAP", 5), ("LONGEST", 11)):
            patch.setattr(parts, name, value)
        yield


@pytest.mark.usefixtures("small_chunks")
def test_query_is_brute_force_once(tmp_path: Path) -> None:
    check_against_brute_force(tmp_path, 4, ["g3", "g0", "g7", "g11"], 3)


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=8, unique=True),
    st.integers(1, 3),
)
def test_query_is_brute_force(
    tmp_path_factory: pytest.TempPathFactory, seed: int, asked: list[str], n_parts: int
) -> None:
    check_against_brute_force(tmp_path_factory.mktemp("store"), seed, asked, n_parts)


def test_the_same_run_is_refused_or_replaces(tmp_path: Path) -> None:
    store = toy(tmp_path)
    key = store.parts[0].key
    with pytest.raises(OutputError, match=rf"the same run.*found part {key}.*replace=true"):
        append_toy(store, run="elsewhere")  # where the run's folder lies says nothing
    before = store.query(["IFI6"])
    obs = table(["c2", "c1"], cell_type=["T cell", "B cell"], age=[50.0, 30.0])
    again = store.append(
        TOY[::-1] * 2, obs, table(["ISG15", "IFI6", "CD3E"]), FACTS, replace_part=True
    )
    assert again == key and folders(store) == [f"part-{key}-1.zarr"]
    after = store.query(["IFI6"]).cells.set_index("cell")["score"]
    np.testing.assert_allclose(after[before.cells["cell"]], 2 * before.cells["score"])
    append_toy(store, config_hash="other")
    append_toy(store, method="deeplift")
    assert len(store.parts) == 3
    assert store.parts[0].key == key  # in the order of their appends


def test_parts_can_be_dropped(tmp_path: Path) -> None:
    store = toy(tmp_path)
    second = append_toy(store, data="data2")
    with pytest.raises(OutputError, match=rf"no part '123'.*{second}"):
        store.drop("123")
    reading = store.parts[0]
    store.drop(reading.key)
    assert [p.key for p in store.parts] == [second] and len(folders(store)) == 1
    with pytest.raises(OutputError, match="was dropped"):
        reading.require_present()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores_ng": np.array([[1.0, np.nan, 0], [0, 0, 0]])}, "cell 'c1'.*NaN.*gene 'b'"),
        ({"scores_ng": np.full((2, 3), 1e300)}, "NaN or infinite"),  # too large for float32
        ({"scores_ng": np.zeros((3, 3))}, "3 cells of scores, but 2 names"),
        ({"obs": table(["c1", "c1"])}, "unique names of cells"),
        ({"var": table(["a", "", "c"])}, "unique names of genes"),
        ({"obs": table(["c1", "c2"], **{"a/b": [1, 2]})}, "cannot be stored"),
    ],
)
def test_unusable_scores_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    given = {"scores_ng": TOY, "obs": table(["c1", "c2"]), "var": table(["a", "b", "c"])}
    with pytest.raises(OutputError, match=message):
        AttributionStore(tmp_path).append(**{**given, **change}, facts=FACTS)  # type: ignore[arg-type]
    assert not (tmp_path / ".lock").exists() or folders(AttributionStore(tmp_path)) == []


def test_an_append_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = toy(tmp_path)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(parts, "_flush", full)
    with pytest.raises(OSError, match="No space left"):
        append_toy(store, data="data2")
    assert len(folders(store)) == 1


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written to"):
        toy(tmp_path / "file")


def appending(folder: Path, name: str) -> Forked:
    """A process that is about to append a large part, slowly."""
    process = Forked(Path(__file__).with_name("appending.py"), folder, name)
    process.until(lambda: "ready\n" in process.said)
    return process


@pytest.mark.slow
def test_killed_appends_are_invisible(tmp_path: Path) -> None:
    """SIGKILL at many moments: the store is as before, and the next append removes the rest."""
    store = toy(tmp_path)
    (whole,) = folders(store)
    n_left = 0
    for moment in np.linspace(0.0, 0.2, 5):
        process = appending(tmp_path, "killed")
        time.sleep(float(moment))
        assert process.end(signal.SIGKILL) == -signal.SIGKILL and process.said == "ready\n"
        present = [name for name in folders(store) if not name.startswith(".")]
        assert present == [whole]
        n_left += len(folders(store)) - 1
        np.testing.assert_allclose(
            AttributionStore(tmp_path).query(["IFI6"]).cells["score"], [0, 4]
        )
    assert n_left > 0  # some were killed in the middle
    key = append_toy(store, data="data2")
    assert folders(store) == sorted([whole, f"part-{key}-0.zarr"])


@pytest.mark.slow
def test_appends_at_the_same_time(tmp_path: Path) -> None:
    """Two runs both survive, and none removes the other's work; of the same run one is refused."""
    processes = [appending(tmp_path, name) for name in ("a", "b", "b")]
    codes = [process.wait() for process in processes]
    assert codes[0] == 0 and sorted(codes[1:]) == [0, 1]
    said = [process.said.removeprefix("ready\n") for process in processes]
    assert said[0] == "done\n" and sorted(said[1:]) == ["", "done\n"]
    store = AttributionStore(tmp_path)
    assert sorted(store.info()["config_hash"]) == ["a", "b"]
    scores = np.random.default_rng(0).normal(size=(300, 40)).astype(np.float32)
    found = store.query(["g7"], columns=[]).cells["score"]
    np.testing.assert_array_equal(found, np.tile(scores[:, 7], 2).astype(np.float64))
    assert len(folders(store)) == 2


def test_work_in_progress_is_not_cleaned(tmp_path: Path) -> None:
    """What somebody holds the lock of stays; what nobody holds goes."""
    store = toy(tmp_path)
    with store._workplace() as work:
        append_toy(AttributionStore(tmp_path), data="data2")  # locks count by opening, not process
        assert work.is_dir()
    (tmp_path / ".append-old").mkdir()
    append_toy(store, data="data3")
    assert len(folders(store)) == 3  # the toy and two appends


def test_a_replacement_killed_at_its_end(tmp_path: Path) -> None:
    """Both versions are there for a moment: the newer counts, the next append removes the other."""
    store = toy(tmp_path)
    (old,) = folders(store)
    append_toy(store, replace_part=True)
    (new,) = folders(store)
    shutil.copytree(tmp_path / new, tmp_path / old)
    assert [p.path.name for p in AttributionStore(tmp_path).parts] == [new]
    append_toy(store, data="data2")
    assert old not in folders(store) and new in folders(store)


def lose_chunk(part: Path) -> None:
    (part / "X" / "data" / "c" / "0").unlink()


def cut_chunk(part: Path) -> None:
    file = part / "X" / "data" / "c" / "0"
    file.write_bytes(file.read_bytes()[:-1])


def turn_bit(part: Path) -> None:
    file = part / "X" / "data" / "c" / "0"
    content = bytearray(file.read_bytes())
    content[-6] ^= 1
    file.write_bytes(bytes(content))


def lose_root(part: Path) -> None:
    (part / "zarr.json").unlink()


def no_facts(part: Path) -> None:
    about = json.loads((part / "zarr.json").read_text())
    del about["attributes"]["gradgene"]["model"]
    (part / "zarr.json").write_text(json.dumps(about))


@pytest.mark.parametrize("damage", [lose_chunk, cut_chunk, turn_bit, lose_root, no_facts])
def test_damage_is_named(tmp_path: Path, damage) -> None:
    store = toy(tmp_path)
    damage(store.parts[0].path)
    with pytest.raises(OutputError, match=r"part-.*is not a readable part of a store"):
        AttributionStore(tmp_path).query(["IFI6"])


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """A part in zarr's second format, which has a pickle codec, is not opened at all."""
    store = toy(tmp_path)
    path = store.parts[0].path
    index = path / "obs" / "_index"
    about = json.loads((index / "zarr.json").read_text())
    about["codecs"] = [{"name": "pickle", "configuration": {}}]
    (index / "zarr.json").write_text(json.dumps(about))
    with zarr.config.set({"array.write_empty_chunks": False}):
        root: Any = zarr.open_group(path, mode="r+", zarr_format=3)
        root.attrs["gradgene"] = {**root.attrs["gradgene"], "files": list(parts._tally(path))}
    with pytest.raises(OutputError, match=r"not a readable part.*pickle"):
        AttributionStore(tmp_path).query(["IFI6"])
    shutil.rmtree(path)
    zarr.open_group(path, mode="w", zarr_format=2)
    with pytest.raises(OutputError, match="not a readable part"):
        AttributionStore(tmp_path).query(["IFI6"])


def test_obs_of_all_kinds(tmp_path: Path) -> None:
    """Labels, missing ones, numbers, truth values, times."""
    obs = table(
        ["a", "b", "c"],
        label=["x", None, "unknown"],
        n=[1, 2, 3],
        f=pd.array([1, None, 3], dtype="Int64"),
        yes=[True, False, True],
        day=pd.to_datetime(np.array(["2024-01-01", "NaT", "2024-01-02"], "M8[ns]")),
    )
    store = AttributionStore(tmp_path)
    store.append(np.eye(3), obs, table(["g", "h", "i"]), FACTS)
    read = store.query(["g"]).cells
    assert read["label"].isna().tolist() == [False, True, True]
    assert read["n"].tolist() == [1, 2, 3] and read["yes"].tolist() == [True, False, True]
    assert read["f"].tolist()[::2] == [1, 3] and read["f"].isna()[1]
    assert str(read["day"][0]).startswith("2024-01-01")
    assert store.query(["g"], where={"n": ["2"], "yes": ["False"]}).cells["cell"].tolist() == ["b"]


@pytest.mark.slow
def test_only_wanted_genes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes read for two genes are those of their chunks, not of the matrix."""
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(2000, 300)) * (rng.random((2000, 300)) < 0.5)
    monkeypatch.setattr(parts, "CHUNK", 1000)
    monkeypatch.setattr(parts, "GAP", 1000)
    store = AttributionStore(tmp_path)
    names = [f"g{i}" for i in range(300)]
    store.append(dense, table([f"c{i}" for i in range(2000)]), table(names), FACTS)
    read: list[str] = []
    original = zarr.storage.LocalStore.get

    async def spy(self, key, *words, **more):  # type: ignore[no-untyped-def]
        read.append(key)
        return await original(self, key, *words, **more)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", spy)
    found = store.query(["g10", "g250"], columns=[])
    np.testing.assert_allclose(found.cells["score"], dense[:, [10, 250]].mean(axis=1), atol=1e-6)
    chunks = [key for key in read if key.startswith("X/data/c/")]
    assert 2 <= len(chunks) <= 6 and os.path.isdir(store.parts[0].path)
