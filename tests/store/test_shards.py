"""Shards and manifest hold exactly the scores, and are no result before they are closed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from gradgene.attribution import Attribution, Target, build_method
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, blend
from gradgene.store import PairShardWriter

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
    folder: Path, model: PhenotypeGeneTransformer, config_hash: str = "abc"
) -> PairShardWriter:
    """A writer for the vocabulary of `model`."""
    return PairShardWriter(folder, model.vocabulary.genes, model.vocabulary.phenotypes, config_hash)


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
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["config_hash"] == "abc"
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
    table = pq.read_table(tmp_path / "part-00000.parquet")
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
    (tmp_path / "notes.txt").write_text("mine")
    new = writer(tmp_path, tiny_model, "new")
    # From here on there is no result, however the new run ends.
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    new.write(found[1], BATCHES[1])
    new.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "manifest.json",
        "notes.txt",
        "part-00000.parquet",
    ]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["config_hash"] == "new" and len(manifest["shards"]) == 1
    assert set(pd.read_parquet(tmp_path / "part-00000.parquet")["pair"]) == {2, 4, 5}


def test_a_writer_makes_its_folder(
    tmp_path: Path, tiny_model: PhenotypeGeneTransformer, tiny_pairs: BlendedBatch
) -> None:
    folder = tmp_path / "attributions" / "pairs"
    shards = writer(folder, tiny_model)
    shards.write(attributions(tiny_model, tiny_pairs, "grad_x_delta")[0], BATCHES[0])
    shards.close()
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "part-00000.parquet"]
