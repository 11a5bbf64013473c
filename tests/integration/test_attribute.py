"""`gradgene attribute`: killed and given again, with pairs left out, before and after the work."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from gradgene.checkpoints import load_checkpoint
from gradgene.commands.main import main
from gradgene.genes import default_importance
from gradgene.store import read_pair_scores
from tests.forked import Forked
from tests.integration.tiny import contents, progress, read, words

TABLES = ("genes", "pairs", "examples", "rankings", "donors", "plan", "strata")
#: Many small batches, kept one by one.
PIECEMEAL = ("attribution.batch_tokens=60", "attribution.keep_every_s=0")


@pytest.fixture(scope="module")
def trained(cells_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model, not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", *words(cells_file, folder)]) == 0
    return folder / "checkpoints" / "best.ckpt"


def line(data: Path, folder: Path, checkpoint: Path, *more: str) -> list[str]:
    """Words of an attribution with a model from elsewhere."""
    return ["attribute", *words(data, folder, f"checkpoint.path={checkpoint}", *more)]


def results(folder: Path) -> dict[str, bytes]:
    """Every table of an attribution; how long it took is beside them."""
    return {
        name: content
        for name, content in contents(folder).items()
        if name.startswith(("attributions/", "pruning/")) and name != "attributions/plan.json"
    }


def leads_from_one_cell_to_the_other(
    examples: pd.DataFrame, shards: pd.DataFrame, pairs: pd.DataFrame
) -> None:
    """Scores of the single pairs are those of the shards, and together the change in f."""
    ledger: Any = pairs.set_index("pair")
    assert examples["pair"].nunique() > 1 and set(examples["kind"]) >= {"gene", "category"}
    for pair, of in examples.groupby("pair"):
        (f_input,), (f_baseline,) = of["f_input"].unique(), of["f_baseline"].unique()
        assert f_input == pytest.approx(ledger.loc[pair, "f_input"], abs=1e-5)
        assert f_baseline + of["score"].sum() == pytest.approx(f_input, abs=1e-4)
        assert (of["input"] == ledger.loc[pair, "input"]).all()
        genes = of[of["kind"] == "gene"]
        known = shards[shards["pair"] == pair].set_index("gene")["forward"]
        assert genes["score"].to_numpy() == pytest.approx(known[genes["name"]].to_numpy(), abs=1e-5)
        assert genes["score"].abs().is_monotonic_decreasing
        assert genes[["value_input", "value_baseline"]].notna().all(axis=None)


def test_everything_that_is_written(cells_file: Path, trained: Path, tmp_path: Path) -> None:
    more = ("ranking.by=cell_type", "pairs.per_cell=2", "pairs.max_pairs=9")
    assert main(line(cells_file, tmp_path, trained, *more, "attribution.save=pairs")) == 0
    folder = tmp_path / "attributions"
    assert {f.name for f in folder.iterdir()} == {
        *(f"{name}.parquet" for name in TABLES),
        *("genes_by_label.parquet", "rankings_by_label.parquet", "cells.parquet"),
        "genes_training.parquet",
        *("plan.json", "pairs"),
    }
    plan, strata = read(folder, "plan"), read(folder, "strata")
    assert plan["split"].value_counts().to_dict() == {"test": 9, "train": 6}
    pairs = read(folder, "pairs")
    assert pairs["input"].tolist() == plan.loc[plan["split"] == "test", "input"].tolist()
    assert strata.groupby("split")["n_pairs"].sum().to_dict() == {"test": 9, "train": 6}
    told = json.loads((folder / "plan.json").read_text())
    assert set(told) == {"deeplift"} and set(told["deeplift"]) == {"test", "train"}
    for one in told["deeplift"].values():
        assert one["estimated_seconds"] > 0 and one["seconds"] > 0
        assert one["estimated_peak_mb"] > 100 and one["peak_mb"] > 100
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["attribution/deeplift/n_donors_input"] == pairs["donor_input"].nunique()
    assert metrics["attribution/deeplift/n_donors_baseline"] == pairs["donor_baseline"].nunique()
    assert metrics["attribution/deeplift/n_skipped_pairs"] == 0
    shards = pd.concat(read_pair_scores(folder / "pairs").frames())
    is_gene = ~shards["gene"].str.startswith("@")
    leads_from_one_cell_to_the_other(read(folder, "examples"), shards, pairs)
    for name in ("forward", "backward"):
        zero = float((shards.loc[is_gene, name] == 0).mean())
        assert metrics[f"attribution/deeplift/zero_{name}"] == pytest.approx(zero, abs=1e-12)
    genes = read(folder, "genes").set_index("gene")
    assert genes["between_baseline_variance"].notna().any()
    cells = read(folder, "cells")
    assert set(cells["cell"]) == {*pairs["input"], *pairs["baseline"]}
    assert cells["cell"].is_unique and {"disease", "cell_type", "donor"} <= {*cells.columns}
    _tables_by_label(folder, shards, cells, pairs)


def _tables_by_label(
    folder: Path, shards: pd.DataFrame, cells: pd.DataFrame, pairs: pd.DataFrame
) -> None:
    """Tables of a label are those of its pairs alone."""
    labels = cells.set_index("cell")["cell_type"]
    label_of = pairs.set_index("pair")["input"].map(labels)
    tables = read(folder, "genes_by_label")
    assert set(tables["category"]) == {"cell_type"} and set(tables["label"]) == set(label_of)
    rankings = read(folder, "rankings_by_label")
    importance = default_importance("deeplift", "cell_state")
    for label, table in tables.groupby("label"):
        mine = shards[shards["pair"].map(label_of) == label]
        n_pairs = (label_of == label).sum()
        expected = mine.groupby("gene")["forward"].sum() / n_pairs
        scores = table.set_index("gene")["score"]
        np.testing.assert_allclose(scores, expected.reindex(scores.index), rtol=1e-5, atol=1e-9)
        assert table["n_pairs"].max() == n_pairs
        wanted = (rankings["ranking"] == f"deeplift/{importance}") & (rankings["label"] == label)
        ranking = rankings[wanted].set_index("gene")["score"]
        ranked = table[table["rank"].notna()].set_index("gene")["score"]
        np.testing.assert_allclose(ranked, ranking.reindex(ranked.index), atol=1e-12)


def test_donors_can_be_pooled(cells_file: Path, trained: Path, tmp_path: Path) -> None:
    assert main(line(cells_file, tmp_path, trained)) == 0
    donors, genes = read(tmp_path, "attributions/donors"), read(tmp_path, "attributions/genes")
    pairs = read(tmp_path, "attributions/pairs")
    of_inputs = donors[donors["n_pairs"] > 0]
    assert of_inputs.groupby("donor")["n_pairs"].first().to_dict() == (
        pairs["donor_input"].value_counts().to_dict()
    )
    assert set(donors["donor"]) == {*pairs["donor_input"], *pairs["donor_baseline"]}
    weighted = donors.assign(total=donors["score"] * donors["n_pairs"]).groupby("gene")["total"]
    scores = genes[genes["rank"].notna()].set_index("gene")["score"]
    np.testing.assert_allclose(weighted.sum()[scores.index] / len(pairs), scores, atol=1e-12)
    (score_key,) = donors["score_key"].unique()
    assert score_key.startswith("deeplift/forward ")


def test_a_category_that_is_not_read(
    cells_file: Path, trained: Path, tmp_path: Path, refused: Any
) -> None:
    said = refused(*line(cells_file, tmp_path, trained, "ranking.by=celltype"))
    assert said.startswith("gradgene: error: ranking.by: ") and "'cell_type'" in said


def test_a_dry_run_tells_the_plan_and_what_it_takes(
    cells_file: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    takes = r"│ to do +│ 6 test and 6 train pairs by deeplift +│ \d+ (s|min) +│ [\d.]+ (MB|GB) +│"
    untrained = ["attribute", *words(cells_file, tmp_path / "new")]
    for given in (line(cells_file, tmp_path / "new", trained), untrained):
        assert main([*given, "--dry-run"]) == 0
        said = capsys.readouterr().out
        assert "6 pairs of test cells" in said and "6 pairs of train cells" in said
        assert re.search(takes, said), said
        assert not (tmp_path / "new").exists()


def poisoned(checkpoint: Path, genes: list[str], file: Path) -> Path:
    """The model with NaN in the identity of some genes: the pairs that show one have no scores."""
    content = torch.load(checkpoint, weights_only=True)
    vocabulary = load_checkpoint(checkpoint).vocabulary
    rows = [vocabulary.gene_offset + vocabulary.genes.index(gene) for gene in genes]
    content["state_dict"]["model.identity_embedding.weight"][rows] = float("nan")
    torch.save(content, file)
    return file


def test_pairs_without_finite_scores(
    cells_file: Path,
    trained: Path,
    tmp_path: Path,
    refused: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line by default; with on_error=skip they are counted, listed and in no table."""
    whole, bad = tmp_path / "whole", tmp_path / "bad.ckpt"
    assert main(line(cells_file, whole, trained, "attribution.save=pairs")) == 0
    shown = pd.concat(read_pair_scores(whole / "attributions/pairs").frames())
    n_pairs = shown.groupby("gene")["pair"].nunique()
    gene = str(n_pairs[(n_pairs > 0) & (n_pairs < 6)].index[0])
    affected = sorted(shown.loc[shown["gene"] == gene, "pair"].unique())
    poisoned(trained, [gene], bad)
    said = refused(*line(cells_file, tmp_path / "stops", bad))
    pairs = read(whole, "attributions/pairs").set_index("pair")
    assert "attribution.method=deeplift, layer=total: pair " in said
    assert "attribution.on_error=skip" in said
    assert any(
        f"pair {p} has no finite scores" in said
        and f"input {pairs.loc[p, 'input']!r}, baseline {pairs.loc[p, 'baseline']!r}" in said
        for p in affected
    )
    assert not (tmp_path / "stops" / "attributions" / "genes.parquet").exists()
    capsys.readouterr()
    skip = ("attribution.on_error=skip", "attribution.save=pairs")
    assert main(line(cells_file, tmp_path / "skips", bad, *skip)) == 0
    assert f"left out {len(affected)} pairs of test cells" in capsys.readouterr().out
    left_out = read(tmp_path / "skips", "attributions/skipped_pairs")
    assert left_out.columns.tolist() == "method split pair input baseline reason".split()
    of_test = left_out[left_out["split"] == "test"]
    assert of_test["pair"].tolist() == affected
    assert of_test["input"].tolist() == pairs.loc[affected, "input"].tolist()
    assert of_test["reason"].str.contains("NaN").all()
    kept = read(tmp_path / "skips", "attributions/pairs")
    assert kept["pair"].tolist() == [p for p in range(6) if p not in affected]
    metrics = json.loads((tmp_path / "skips" / "metrics.json").read_text())
    assert metrics["attribution/deeplift/n_skipped_pairs"] == len(affected)
    genes = read(tmp_path / "skips", "attributions/genes").set_index("gene")
    assert gene not in genes.index and genes["n_pairs"].max() == 6 - len(affected)
    assert genes["score"].notna().all()
    scores = read_pair_scores(tmp_path / "skips" / "attributions" / "pairs")
    assert scores.skipped == tuple(affected)


def test_no_pair_has_finite_scores(
    cells_file: Path, trained: Path, tmp_path: Path, refused: Any
) -> None:
    genes = [*load_checkpoint(trained).vocabulary.genes]
    bad = poisoned(trained, genes, tmp_path / "bad.ckpt")
    said = refused(*line(cells_file, tmp_path / "new", bad, "attribution.on_error=skip"))
    assert "not one pair has finite scores; found 6 pairs left out" in said


@pytest.mark.slow
def test_killed_again_and_again(cells_file: Path, trained: Path, tmp_path: Path) -> None:
    """Eight commands in eight processes, each killed at another moment."""
    more = (
        *(*PIECEMEAL, "attribution.save=pairs"),
        *("study.compare=[gradient_shap,random]", "pairs.max_pairs=41"),
    )
    command = line(cells_file, tmp_path / "killed", trained, *more)
    whole = line(cells_file, tmp_path / "whole", trained, *more)
    program = Path(__file__).with_name("killing.py")
    done = Forked(program, 8, json.dumps(whole), json.dumps(command))
    assert done.wait(900) == 0, done.error[-3000:]
    said = json.loads(done.said.splitlines()[-1])
    assert said["killed"] == 8
    assert said["with_progress"] >= 2, said  # 5 and more where nothing else runs
    ours, theirs = results(tmp_path / "whole"), results(tmp_path / "killed")
    assert set(ours) == set(theirs)
    for name in ours:
        assert ours[name] == theirs[name], name
    assert not (tmp_path / "killed" / "attributions" / ".progress").exists()
    assert [stage["stage"] for stage in progress(tmp_path / "killed")] == ["attribute"]
