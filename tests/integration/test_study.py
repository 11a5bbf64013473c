"""One finished study: its files, its columns, and that the numbers are what they say they are."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gradgene.checkpoints import load_checkpoint
from gradgene.commands.attribute import running as attribute_running
from gradgene.commands.attribute import stage as attribute_command
from gradgene.commands.main import main
from tests.integration.tiny import contents, progress, read, words, write_cells
from tests.planted import CASE_GENES, CONTROL_GENES, make_adata

GENES = (
    "gene ensembl_id rank score score_present forward backward contrast paper_mean embedding "
    "presence mean_abs mean_abs_present direction log_fold_change score_donors se ci_low ci_high p "
    "p_adjusted p_null flags n_pairs n_cells n_donors zero_forward zero_backward zero_importance "
    "outlier between_baseline_variance depth_correlation explained_share method baseline target "
    "model split seed config_hash"
).split()
PAIRS = (
    "pair input baseline donor_input donor_baseline n_genes_input n_genes_baseline n_shared "
    "f_input f_baseline forward_delta backward_delta relative_delta"
).split()
# `draw` is beside the contract: it tells the random orders of one run apart.
RANKINGS = "ranking draw gene score rank split".split()
CURVES = (
    "ranking draw order ratio arm metric value ci_low ci_high n_cells n_donors rank_source split "
    "seed"
).split()
SUMMARY = (
    "ranking order arm metric area ci_low ci_high interval_over n_donors rank_source against "
    "area_to_matched matched_low matched_high matched_over"
).split()
FIGURES = (
    "training_curves distribution_importance distribution_forward distribution_backward "
    "scores_by_gene top_genes pruning_lowest_first pruning_highest_first "
    "paper_pruning_lowest_first paper_pruning_highest_first completeness"
).split()
FILES = {
    *"config.yaml provenance.json metrics.json progress.jsonl report.html".split(),
    *(f"checkpoints/{f}" for f in ("best.ckpt", "last.ckpt")),
    *(f"checkpoints/hf/{f}" for f in ("config.json", "model.safetensors", "vocabulary.json")),
    *(f"attributions/{f}.parquet" for f in ("genes", "pairs", "plan", "strata", "donors")),
    "attributions/genes_training.parquet",
    "attributions/plan.json",
    *(f"pruning/{f}.parquet" for f in ("rankings", "curves", "curves_by_donor", "summary")),
    *(f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg")),
}
# What a run keeps for itself and the report, beside the files of the contract.
OWN_FILES = {
    *("data_report.json", "training.csv", "checkpoints/training.json"),
    *("attributions/rankings.parquet", "checkpoints/calibration.json"),
    "attributions/examples.parquet",
    "checkpoints/hf/README.md",
    *("confusion.parquet", "test_donors.parquet"),
}
ASKED_FOR = {
    *(f"attributions/pairs/{f}" for f in ("manifest.json", "part-000-00000.parquet")),
    "attributions/cells.parquet",
    *(f"attributions/grad_x_delta/{f}.parquet" for f in ("genes", "pairs", "donors")),
    # Compared methods take all but the method from the main attribution, so also what to save.
    *(f"attributions/grad_x_delta/pairs/{f}" for f in ("manifest.json", "part-000-00000.parquet")),
}
pytestmark = pytest.mark.slow  # all the figures of a study

#: Enough training to find the planted genes.
TRAINED = ("finetune.max_epochs=10", "finetune.learning_rate=0.01", "data.batch_size=16")


@dataclass
class Finished:
    """A finished run; `seen` holds cells and plan of every attribution by split."""

    data: Path
    folder: Path
    seen: dict[str, list] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        asked = ("attribution.save=pairs", "study.compare=[grad_x_delta]")
        return words(self.data, self.folder, *asked, *TRAINED)

    @property
    def scores(self) -> pd.DataFrame:
        parts = sorted((self.folder / "attributions" / "pairs").glob("part-*.parquet"))
        return pd.concat(pd.read_parquet(part) for part in parts)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """The tiny study of two methods on cells of which two are all zero."""
    folder = tmp_path_factory.mktemp("study")
    data = write_cells(folder / "cells.h5ad", lambda _: make_adata(120, 30, n_donors=6, empty=2))
    finished = Finished(data, folder / "run")
    attribute_pairs = attribute_running.attribute_pairs

    def spy(work, settings, cells, plan, split):
        finished.seen.setdefault(split, []).append((cells, plan))
        return attribute_pairs(work, settings, cells, plan, split)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attribute_command, "attribute_pairs", spy)
        assert main(["study", *finished.words]) == 0
    yield finished


def test_exactly_the_files_of_the_contract(run):
    assert set(contents(run.folder)) == FILES | OWN_FILES | ASKED_FOR
    assert all(contents(run.folder).values()), "no file is empty"


@pytest.mark.parametrize("folder", ["attributions", "attributions/grad_x_delta"])
def test_columns_of_the_attributions(run, folder):
    assert read(run.folder / folder, "genes").columns.tolist() == GENES
    assert read(run.folder / folder, "pairs").columns.tolist() == PAIRS


def test_columns_of_the_pruning(run):
    pruning = run.folder / "pruning"
    assert read(pruning, "rankings").columns.tolist() == RANKINGS
    assert read(pruning, "curves").columns.tolist() == CURVES
    assert read(pruning, "summary").columns.tolist() == SUMMARY


def test_shards_and_manifest(run):
    manifest = json.loads((run.folder / "attributions/pairs/manifest.json").read_text())
    genes = read(run.folder, "attributions/genes")
    assert manifest["config_hash"] == genes["config_hash"].unique().item()
    assert run.scores.columns.tolist() == "pair gene forward backward embedding presence".split()
    assert sum(shard["rows"] for shard in manifest["shards"]) == len(run.scores)
    pairs = read(run.folder, "attributions/pairs")["pair"].tolist()
    assert sorted(p for shard in manifest["shards"] for p in shard["pairs"]) == pairs
    assert not run.scores.duplicated(["pair", "gene"]).any()


def test_scores_are_means_over_all_pairs(run):
    table = read(run.folder, "attributions/genes").set_index("gene")
    n_pairs = len(read(run.folder, "attributions/pairs"))
    scores = run.scores.astype({"forward": float, "backward": float})
    by_gene = scores.assign(
        contrast=(scores["forward"] - scores["backward"]) / 2, size=scores["forward"].abs()
    ).groupby("gene")
    expected = by_gene[["forward", "backward", "contrast", "embedding", "presence"]].sum() / n_pairs
    assert set(table.index) == set(expected.index)
    expected = expected.reindex(table.index)
    for column in expected:
        np.testing.assert_allclose(table[column], expected[column], rtol=1e-5, atol=1e-9)
    pd.testing.assert_series_equal(table["score"], table["forward"], check_names=False)
    present = by_gene["forward"].mean().reindex(table.index)
    np.testing.assert_allclose(table["score_present"], present, rtol=1e-5, atol=1e-9)
    mean_abs = (by_gene["size"].sum() / n_pairs).reindex(table.index)
    np.testing.assert_allclose(table["mean_abs"], mean_abs, rtol=1e-5, atol=1e-9)
    zeros = (scores["forward"] == 0).groupby(scores["gene"]).mean().reindex(table.index)
    np.testing.assert_allclose(table["zero_forward"], zeros, atol=1e-12)


def test_counts_are_those_of_the_pairs(run):
    table = read(run.folder, "attributions/genes").set_index("gene")
    ledger = read(run.folder, "attributions/pairs")
    rows = run.scores.merge(ledger[["pair", "input", "donor_input"]], on="pair").groupby("gene")
    assert table["n_pairs"].to_dict() == rows["pair"].nunique().to_dict()
    genes = table[table["rank"].notna()]
    assert genes["n_cells"].to_dict() == rows["input"].nunique()[genes.index].to_dict()
    assert genes["n_donors"].to_dict() == rows["donor_input"].nunique()[genes.index].to_dict()


def test_scores_of_a_pair_add_up(run):
    ledger = read(run.folder, "attributions/pairs").set_index("pair")
    total = run.scores.groupby("pair")["forward"].sum()
    np.testing.assert_allclose(total, ledger["f_input"] - ledger["f_baseline"], atol=1e-5)
    assert (ledger["relative_delta"] <= 1e-4).all()


def test_the_planted_genes_are_found(run):
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert metrics["test/balanced_accuracy"] > 0.9
    best = read(run.folder, "attributions/genes")["gene"].head(6)
    assert set(best) <= {*CASE_GENES, *CONTROL_GENES}


@pytest.mark.parametrize("folder", ["attributions", "attributions/grad_x_delta"])
def test_ranks_descend_and_categories_have_none(run, folder):
    table = read(run.folder / folder, "genes")
    category = table["gene"].str.startswith("@")
    assert table.loc[category, "gene"].tolist() == ["@disease", "@cell_type"]
    assert table["rank"].isna().tolist() == category.tolist()
    genes = table[~category]
    assert genes["rank"].tolist() == [*range(1, len(genes) + 1)]
    assert (genes["score"].diff().dropna() <= 0).all()
    assert table["score"].notna().all()


def test_quantities_that_a_method_lacks_are_null(run):
    main_table = read(run.folder, "attributions/genes")
    compared = read(run.folder, "attributions/grad_x_delta/genes")
    for column in ("paper_mean", "between_baseline_variance"):
        assert main_table[column].isna().all(), column
    assert main_table["p_null"].notna().any()
    assert main_table["presence"].notna().all() and (main_table["presence"] != 0).any()
    assert compared["presence"].isna().all()
    assert compared["paper_mean"].notna().all()
    # Two held-out donors make no interval.
    assert main_table[["se", "ci_low", "ci_high", "p_adjusted"]].isna().all(axis=None)


def test_facts_of_the_tables(run):
    table = read(run.folder, "attributions/genes")
    compared = read(run.folder, "attributions/grad_x_delta/genes")
    constant = table[["method", "baseline", "target", "split", "seed"]].drop_duplicates()
    assert constant.to_numpy().tolist() == [
        ["deeplift", "cell_state", "disease: case against control", "test", 0]
    ]
    assert set(compared["method"]) == {"grad_x_delta"}
    pd.testing.assert_series_equal(compared["score"], compared["contrast"], check_names=False)
    genes = table[table["rank"].notna()]
    assert genes["ensembl_id"].str.startswith("ENSG").all()
    assert (genes["direction"] == np.where(genes["log_fold_change"] > 0, "up", "down")).all()


def test_pairs_are_matched_and_their_donors_held_out(run):
    (held_out, plan), *_ = run.seen["test"]
    (training, training_plan), *_ = run.seen["train"]
    for cells, pairs in ((held_out, plan.table), (training, training_plan.table)):
        inputs, baselines = (cells.obs.iloc[pairs[f"{m}_row"]] for m in ("input", "baseline"))
        assert set(inputs["disease"]) == {"case"} and set(baselines["disease"]) == {"control"}
        assert inputs["cell_type"].tolist() == baselines["cell_type"].tolist()
    ledger = read(run.folder, "attributions/pairs")
    assert ledger["input"].tolist() == plan.table["input"].tolist() and len(ledger) == 6
    donors = {*ledger["donor_input"], *ledger["donor_baseline"]}
    assert donors and donors.isdisjoint(training.obs["donor"])
    assert set(ledger["input"]).isdisjoint(training.obs.index)
    assert len(training_plan) == 6
    assert training_plan.table["donor_input"].isin(training.obs["donor"]).all()


def test_rankings_order_the_whole_panel_from_training_pairs(run):
    rankings = read(run.folder, "pruning/rankings")
    panel = set(load_checkpoint(run.folder).vocabulary.genes)
    assert set(rankings["split"]) == {"train"}
    for (name, draw), ranking in rankings.groupby(["ranking", "draw"]):
        assert set(ranking["gene"]) == panel and len(ranking) == len(panel), (name, draw)
        assert ranking["rank"].tolist() == [*range(1, len(panel) + 1)]
        assert (ranking["score"].diff().dropna() <= 0).all()
    names = set(rankings["ranking"])
    for method in ("deeplift", "grad_x_delta"):
        assert {f"{method}/forward", f"{method}/contrast", f"{method}/forward/abs"} <= names
    assert {"hvg", "deg", "expression", "random"} <= names
    assert "deeplift/paper_mean" not in names and "grad_x_delta/paper_mean" in names


def test_every_ranking_is_pruned_at_every_ratio(run):
    curves = read(run.folder, "pruning/curves")
    rankings = read(run.folder, "pruning/rankings")
    assert set(curves["ranking"]) == set(rankings["ranking"])
    assert set(curves.loc[curves["ranking"] == "random", "draw"]) == {0, 1}
    assert set(curves["arm"]) == {"input", "baseline", "both"}
    ratios = {"lowest_first": [0.0, 0.5, 0.8, 0.9, 0.95, 0.98], "highest_first": [0.02, 0.05, 0.2]}
    for (order, _), curve in curves.groupby(["order", "ranking"]):
        assert sorted(set(curve["ratio"])) == ratios[str(order)]
    is_drop = curves["metric"] == "probability_drop"
    assert curves.loc[~is_drop, "value"].between(0, 1).all()
    assert curves.loc[is_drop, "value"].between(-1, 1).all()
    assert set(curves["split"]) == {"test"} and set(curves["rank_source"]) == {"held_out"}
    whole = curves[(curves["order"] == "lowest_first") & (curves["ratio"] == 0)]
    assert (whole.groupby(["arm", "metric"])["value"].nunique() == 1).all()
    areas = read(run.folder, "pruning/summary")
    assert set(areas["ranking"]) == set(curves["ranking"])
    np.testing.assert_allclose(areas.loc[areas["ranking"] == "random", "area"], 0, atol=1e-12)


def test_metrics_are_flat_numbers(run):
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert all(isinstance(value, int | float) for value in metrics.values())
    assert {"test/balanced_accuracy", "test/macro_f1"} <= set(metrics)
    assert (metrics["pairs/n_pairs"], metrics["pairs/n_skipped"]) == (6, 0)
    curves = read(run.folder, "pruning/curves")
    whole = curves[
        (curves["ratio"] == 0) & (curves["arm"] == "both") & (curves["metric"] == "accuracy")
    ]
    assert whole["value"].iloc[0] == pytest.approx(metrics["test/accuracy"])


def test_where_it_comes_from(run):
    facts = json.loads((run.folder / "provenance.json").read_text())
    assert facts["data"]["sha256"] == hashlib.sha256(run.data.read_bytes()).hexdigest()
    best = (run.folder / "checkpoints" / "best.ckpt").read_bytes()
    assert facts["checkpoint"]["sha256"] == hashlib.sha256(best).hexdigest()
    assert facts["command"][:2] == ["gradgene", "study"]
    config = (run.folder / "config.yaml").read_text()
    assert "${" not in config and str(run.data) in config
    report = json.loads((run.folder / "data_report.json").read_text())
    assert report["n_cells_read"] == 120 and report["dropped"] == {"all-zero": 2}


def test_progress_has_a_line_a_stage(run):
    lines = progress(run.folder)
    assert [line["stage"] for line in lines] == ["train", "attribute", "prune", "evaluate"]
    assert all(line["seconds"] >= 0 and line["peak_memory_mb"] > 0 for line in lines)


def test_both_checkpoints_hold_the_same_model(run):
    ckpt, folder = (load_checkpoint(run.folder / "checkpoints" / n) for n in ("best.ckpt", "hf"))
    assert ckpt.vocabulary == folder.vocabulary
    weights = folder.model.state_dict()
    for name, weight in ckpt.model.state_dict().items():
        assert weight.equal(weights[name]), name


def test_report_is_one_file_and_names_the_best_gene(run):
    page = (run.folder / "report.html").read_text()
    best = read(run.folder, "attributions/genes")["gene"].iloc[0]
    assert best in page and "data:image/" in page
    for outside in ('src="http', "url(http", 'src="figures'):
        assert outside not in page
    assert not re.search(r'<(?!a )[^>]*href="http', page), "links lead out, and nothing is loaded"


def test_report_is_remade(run, tmp_path):
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    (copy / "report.html").unlink()
    shutil.rmtree(copy / "figures")
    assert main(["report", str(copy)]) == 0
    assert (copy / "report.html").read_text() == (run.folder / "report.html").read_text()
    assert set(contents(copy)) == set(contents(run.folder))


def test_reports_of_several_runs_are_joined(run, tmp_path, capsys):
    other = shutil.copytree(run.folder, tmp_path / "other")
    metrics = json.loads((other / "metrics.json").read_text())
    figure = "test/contrast_balanced_accuracy"
    ours = metrics[figure]
    (other / "metrics.json").write_text(json.dumps({**metrics, figure: ours - 0.5}))
    assert main(["report", str(run.folder), str(other)]) == 0
    said = capsys.readouterr().out
    # A row a run, and their median, before all other tables.
    rows = [[cell.strip() for cell in line.split("│")[1:]] for line in said.splitlines()]
    first = [row[:2] for row in rows if row][:3]
    assert [name for name, _ in first] == ["run", "other", "median"]
    found = [float(value) for _, value in first]
    assert found == pytest.approx([ours, ours - 0.5, ours - 0.25], rel=1e-2)
    assert "deeplift/forward" in said and "random" in said


def test_a_folder_that_is_no_run_is_refused(refused, tmp_path):
    assert str(tmp_path) in refused("report", str(tmp_path))
    assert "nowhere" in refused("report", str(tmp_path / "nowhere"))


def test_dry_run_tells_the_stages_and_writes_nothing(run, tmp_path, capsys):
    before = contents(run.folder)
    assert main(["study", "--dry-run", *run.words]) == 0
    said = capsys.readouterr().out
    for stage in ("train", "attribute", "prune", "evaluate"):
        assert re.search(rf"│ {stage} +│ done +│ +│ +│ +│", said), said
    assert contents(run.folder) == before
    for command in ("study", "train", "attribute", "prune", "evaluate"):
        stages = 4 if command == "study" else 1
        assert main([command, "--dry-run", *words(run.data, tmp_path / "fresh")]) == 0
        assert capsys.readouterr().out.count("to do") == stages
        assert not (tmp_path / "fresh").exists()


def test_data_inspect_shows_shape_and_labels(run, capsys):
    assert main(["data", "inspect", str(run.data)]) == 0
    said = capsys.readouterr().out
    for text in ("120 cells x 30 genes", "data.values=counts", "disease", "case (60/", "donor"):
        assert text in said
