"""Shards and manifest hold exactly the scores, and are no result before they are closed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from gradgene.attribution import Attribution, Target, build_method
from gradgene.errors import OutputError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, blend
from gradgene.store import PairShardWriter, merge_manifests

COLUMNS = ["pair", "gene", "forward", "backward", "embedding", "presence"]
#: Plan positions of the pairs of two batches; batches come longest first, so in no order.
BATCHES = (np.array([6, 0, 3, 7, 1]), np.array([5, 2, 4]))


def attributions(
    model: PhenotypeGeneTransformer, blended: BlendedBatch, method: str
) -> list[Attribution]:
    """Scores of the two batches of `BATCHES`."""
    target = Target("disease", "case", "control")
    rows = blended.input_rows_p, blended.baseline_rows_p
    return [
        build_method(method).attribute(
            model, blend(blended.cells, rows[0][pairs], rows[1][pairs]), target
        )
        for pairs in BATCHES
    ]


def by_hand(found: Attribution, pairs: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
    """Token by token, in the order of pair and position."""
    rows = []
    categories = ("@disease", "@cell_type", "@sex")
    for i, pair in enumerate(pairs):
        for t, gene in enumerate(found.gene_ids_pt[i].tolist()):
            if gene < 0 and not 1 <= t <= 3:
                continue  # [CLS], [EOS] and padding are nobody's evidence
            presence = found.forward.presence_pt
            rows.append(
                (
                    int(pair),
                    names[gene] if gene >= 0 else categories[t - 1],
                    float(found.forward.scores_pt[i, t]),
                    float(found.backward.scores_pt[i, t]),
                    float(found.forward.embedding_pt[i, t]),
                    np.nan if presence is None else float(presence[i, t]),
                )
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def writer(
    folder: Path, model: PhenotypeGeneTransformer, config_hash: str = "abc", rank: int = 0
) -> PairShardWriter:
    """A writer for the vocabulary of `model`."""
    vocabulary = model.vocabulary
    return PairShardWriter(folder, vocabulary.genes, vocabulary.phenotypes, config_hash, rank)


@pytest.mark.parametrize("method", ["deeplift", "grad_x_delta"])
def test_shards_rebuild_the_scores(
    tmp_path: Path, tiny_model: PhenotypeGeneTransformer, tiny_pairs: BlendedBatch, method: str
) -> None:
    shards = writer(tmp_path, tiny_model)
    found = attributions(tiny_model, tiny_pairs, method)
    for attribution, pairs in zip(found, BATCHES, strict=True):
        shards.write(attribution, pairs)
        assert not (tmp_path / "manifest.json").exists()
    shards.close()
    assert not (tmp_path / "manifest.json").exists()
    merge_manifests(tmp_path, 1, 8)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["config_hash"] == "abc"
    assert manifest["n_pairs"] == 8 and manifest["skipped"] == []
    assert manifest["genes"] == [*tiny_model.vocabulary.genes]
    assert [s["pairs"] for s in manifest["shards"]] == [[0, 1, 3, 6, 7], [2, 4, 5]]
    assert sorted(p.name for p in tmp_path.glob("*.parquet")) == [
        s["file"] for s in manifest["shards"]
    ]
    for shard, attribution, pairs in zip(manifest["shards"], found, BATCHES, strict=True):
        read = pd.read_parquet(tmp_path / shard["file"])
        assert len(read) == shard["rows"]
        pd.testing.assert_frame_equal(
            read, by_hand(attribution, pairs, tiny_model.vocabulary.genes), check_exact=True
        )


@pytest.mark.parametrize(("method", "sees"), [("deeplift", True), ("grad_x_delta", False)])
def test_presence_is_null_where_it_is_not_scored(
    tmp_path: Path,
    tiny_model: PhenotypeGeneTransformer,
    tiny_pairs: BlendedBatch,
    method: str,
    sees: bool,
) -> None:
    shards = writer(tmp_path, tiny_model)
    shards.write(attributions(tiny_model, tiny_pairs, method)[0], BATCHES[0])
    table = pq.read_table(tmp_path / "part-000-00000.parquet")
    assert table["presence"].null_count == (0 if sees else len(table))
    assert table["forward"].null_count == table["embedding"].null_count == 0


def test_old_shards_are_replaced(
    tmp_path: Path, tiny_model: PhenotypeGeneTransformer, tiny_pairs: BlendedBatch
) -> None:
    found = attributions(tiny_model, tiny_pairs, "grad_x_delta")
    old = writer(tmp_path, tiny_model, "old")
    for attribution, pairs in zip(found, BATCHES, strict=True):
        old.write(attribution, pairs)
    old.close()
    merge_manifests(tmp_path, 1, 8)
    (tmp_path / "notes.txt").write_text("mine")
    new = writer(tmp_path, tiny_model, "new")
    assert new.resume([])
    # From here on there is no result, however the new run ends.
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    new.write(found[1], BATCHES[1])
    new.close()
    merge_manifests(tmp_path, 1, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "manifest.json",
        "notes.txt",
        "part-000-00000.parquet",
    ]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["config_hash"] == "new" and len(manifest["shards"]) == 1
    assert set(pd.read_parquet(tmp_path / "part-000-00000.parquet")["pair"]) == {2, 4, 5}


def test_a_writer_makes_its_folder(
    tmp_path: Path, tiny_model: PhenotypeGeneTransformer, tiny_pairs: BlendedBatch
) -> None:
    folder = tmp_path / "attributions" / "pairs"
    shards = writer(folder, tiny_model)
    shards.write(attributions(tiny_model, tiny_pairs, "grad_x_delta")[0], BATCHES[0])
    shards.close()
    assert sorted(p.name for p in folder.iterdir()) == [
        "manifest-000.json",
        "part-000-00000.parquet",
    ]
    merge_manifests(folder, 1, 5)
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "part-000-00000.parquet"]


def test_a_writer_goes_on_behind_what_is_known(
    tmp_path: Path, tiny_model: PhenotypeGeneTransformer, tiny_pairs: BlendedBatch
) -> None:
    """Shards that nobody knows of are written again; those of other processes are left."""
    found = attributions(tiny_model, tiny_pairs, "grad_x_delta")
    killed, other = writer(tmp_path, tiny_model), writer(tmp_path, tiny_model, rank=1)
    for attribution, pairs in zip(found, BATCHES, strict=True):
        killed.write(attribution, pairs)
    other.write(found[0], BATCHES[0])
    known = killed.shards[:1]
    first = (tmp_path / known[0]["file"]).read_bytes()
    again = writer(tmp_path, tiny_model)
    assert again.resume(known)
    names = ["part-000-00000.parquet", "part-001-00000.parquet"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert (tmp_path / names[0]).read_bytes() == first
    again.write(found[1], BATCHES[1])
    assert again.shards == killed.shards
    (tmp_path / names[0]).write_bytes(b"altered")
    assert not again.resume(known)
    assert again.shards == [] and [p.name for p in tmp_path.iterdir()] == names[1:]


def test_manifests_of_processes_become_one(
    tmp_path: Path, tiny_model: PhenotypeGeneTransformer, tiny_pairs: BlendedBatch
) -> None:
    found = attributions(tiny_model, tiny_pairs, "grad_x_delta")
    writers = [writer(tmp_path, tiny_model, rank=rank) for rank in (0, 1, 2)]
    for one, attribution, pairs in zip(writers, found, BATCHES, strict=False):
        one.write(attribution, pairs)
    writers[2].write(found[0], BATCHES[0])  # of an earlier run of three processes
    writers[0].close()
    with pytest.raises(OutputError, match="manifest-001"):
        merge_manifests(tmp_path, 2, 8)
    writers[1].close()
    writers[2].close()
    merge_manifests(tmp_path, 2, 9, skipped=[8])
    names = ["manifest.json", "part-000-00000.parquet", "part-001-00000.parquet"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert [s["pairs"] for s in manifest["shards"]] == [[0, 1, 3, 6, 7], [2, 4, 5]]
    assert manifest["skipped"] == [8] and manifest["n_pairs"] == 9


def test_processes_of_several_configurations_are_not_joined(
    tmp_path: Path, tiny_model: PhenotypeGeneTransformer
) -> None:
    for rank, config_hash in enumerate(("abc", "xyz")):
        writer(tmp_path, tiny_model, config_hash, rank).close()
    with pytest.raises(OutputError, match="several configurations"):
        merge_manifests(tmp_path, 2, 0)
