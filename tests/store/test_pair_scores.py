"""Scores of single pairs come back whole, or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradgene.attribution import Attribution, DirectionScores
from gradgene.errors import OutputError
from gradgene.store import PairShardWriter, merge_manifests, read_pair_scores

GENES = ("A", "B", "C")
COLUMNS = ["pair", "gene", "forward", "backward", "embedding", "presence"]


def scores(pairs: np.ndarray) -> Attribution:
    """One phenotype and three genes; every score says whose it is."""
    genes_pt = torch.tensor([[-1, -1, 0, 1, 2]]).repeat(len(pairs), 1)
    values_pt = torch.from_numpy(pairs[:, None] + np.arange(5) / 10).double()
    way = DirectionScores(values_pt, values_pt, None, values_pt[:, 0], values_pt[:, 1])
    return Attribution(way, way.negated(), genes_pt, 2, "toy", "cell_state")


def write(folder: Path, shares: list[list[list[int]]], config_hash: str = "abc") -> int:
    """Shards of the batches of each process; returns the number of pairs."""
    for rank, share in enumerate(shares):
        writer = PairShardWriter(folder, GENES, ("cell_type",), config_hash, rank)
        for pairs in share:
            writer.write(scores(np.array(pairs)), np.array(pairs))
        writer.close()
    n_pairs = sum(len(pairs) for share in shares for pairs in share)
    merge_manifests(folder, len(shares), n_pairs)
    return n_pairs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven pairs in four shards of two processes."""
    write(tmp_path / "pairs", [[[3, 0], [6]], [[1, 5, 2], [4]]])
    return tmp_path / "pairs"


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, 12), max_size=6),
    world=st.integers(1, 3),
    n_pairs=st.integers(3, 12),
)
def test_every_pair_comes_back(tmp_path: Path, cuts: list[int], world: int, n_pairs: int) -> None:
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    order = np.random.default_rng(0).permutation(n_pairs)
    batches = [
        b.tolist() for b in np.split(order, sorted(c for c in cuts if c < n_pairs)) if len(b)
    ]
    write(folder, [batches[rank::world] for rank in range(world)])
    found = read_pair_scores(folder)
    assert (found.config_hash, found.n_pairs, found.genes) == ("abc", n_pairs, GENES)
    frames = [*found.frames()]
    assert len(frames) == len(batches)
    whole = pd.concat(frames).sort_values("pair", kind="stable").reset_index(drop=True)
    assert whole.columns.tolist() == COLUMNS
    assert whole["pair"].tolist() == [*np.repeat(np.arange(n_pairs), 4)]
    assert whole["gene"].tolist() == ["@cell_type", *GENES] * n_pairs
    np.testing.assert_allclose(
        whole["forward"], (np.arange(n_pairs)[:, None] + [0.1, 0.2, 0.3, 0.4]).ravel()
    )
    np.testing.assert_allclose(whole["backward"], -whole["forward"])
    assert whole["presence"].isna().all()


def refused(folder: Path) -> str:
    """What the reader says, here or while it reads."""
    with pytest.raises(OutputError) as error:
        [*read_pair_scores(folder).frames()]
    assert "attribution.save=pairs" in str(error.value)
    return str(error.value)


def test_a_run_that_is_not_finished(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    assert "not finished" in refused(folder)


@pytest.mark.parametrize("number", range(4))
def test_a_missing_shard(folder: Path, number: int) -> None:
    file = sorted(folder.glob("part-*.parquet"))[number]
    file.unlink()
    assert f"{file}: a shard is missing" in refused(folder)


@pytest.mark.parametrize("number", range(4))
def test_a_shard_with_other_rows(folder: Path, number: int) -> None:
    file = sorted(folder.glob("part-*.parquet"))[number]
    frame = pd.read_parquet(file)
    frame.iloc[:-1].to_parquet(file, index=False)
    assert f"{file}: a shard was altered; expected {len(frame)} rows" in refused(folder)


def test_a_shard_with_other_numbers(folder: Path) -> None:
    """As many rows, of the same configuration: only its content tells."""
    write(folder.parent / "other", [[[3, 0], [6]], [[1, 5, 2], [4]]])
    file = sorted((folder.parent / "other").glob("part-*.parquet"))[0]
    PairShardWriter(folder.parent / "third", GENES, ("cell_type",), "abc").write(
        scores(np.array([13, 10])), np.array([3, 0])
    )
    file.write_bytes((folder.parent / "third" / file.name).read_bytes())
    assert f"{file}: is not as it was written" in refused(folder.parent / "other")


def test_a_shard_that_is_none(folder: Path) -> None:
    sorted(folder.glob("part-*.parquet"))[1].write_bytes(b"PAR1")
    assert "is no parquet file" in refused(folder)


def test_a_copy_of_a_shard(folder: Path) -> None:
    shutil.copy(folder / "part-000-00000.parquet", folder / "part-000-00009.parquet")
    assert "of another or an unfinished run" in refused(folder)


def test_a_shard_named_twice(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"].append(manifest["shards"][0])
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "2 pairs are there twice; expected each of 7 once; found pair 0" in refused(folder)


def test_pairs_without_a_shard(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / manifest["shards"].pop()["file"]).unlink()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "1 pairs are missing; expected each of 7 once; found pair 4" in refused(folder)
    manifest["skipped"] = [4]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert read_pair_scores(folder).skipped == (4,)
    manifest["n_pairs"] = 6
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "1 pairs are not of the plan" in refused(folder)


def test_a_shard_of_another_run(folder: Path) -> None:
    other = folder.parent / "other"
    write(other, [[[3, 0], [6]], [[1, 5, 2], [4]]], "xyz")
    shutil.copy(other / "part-001-00000.parquet", folder)
    assert "of another configuration; expected abc; found xyz" in refused(folder)


def test_manifests_that_were_not_joined(folder: Path) -> None:
    writer = PairShardWriter(folder.parent / "again", GENES, ("cell_type",), "abc", 1)
    writer.close()
    shutil.copy(folder.parent / "again" / "manifest-001.json", folder)
    assert "of another or an unfinished run" in refused(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"config_hash": "abc"}'])
def test_a_damaged_manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    assert "manifest.json: is damaged" in refused(folder)
