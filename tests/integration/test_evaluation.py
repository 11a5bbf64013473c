"""Judging rankings against published effects and gene sets, in the stage `evaluate`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from gradgene.commands.main import main
from gradgene.evaluation import MEASURES
from tests.integration.tiny import QUICK, progress, read, words

BY = "ranking.by=cell_type"
#: Cutting the genes is not what is tested here.
CUTS = (*QUICK, "pruning.ratios.lowest_first=[0.5]", "pruning.ratios.highest_first=[0.5]")
LABELS = {"B cells": ["B cell"], "lymphocytes": ["NK cell", "T cell"]}


@pytest.fixture(scope="module")
def attributed(cells_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model with attributions by cell type, not to be changed."""
    folder = tmp_path_factory.mktemp("attributed") / "run"
    for command in ("train", "attribute"):
        assert main([command, *words(cells_file, folder, BY, "pairs.max_pairs=12", *CUTS)]) == 0
    return folder


@pytest.fixture
def folder(attributed: Path, tmp_path: Path) -> Path:
    """A copy of the attributed folder."""
    return shutil.copytree(attributed, tmp_path / "run")


@pytest.fixture
def effects(tmp_path: Path) -> Path:
    """Effects by label: g0 … g4 up, g5 … g9 down, of different sizes in the two labels."""
    file = tmp_path / "effects.tsv"
    rows = [
        (label, f"g{i}", (2.0 + 0.1 * i * size) * (1 if i < 5 else -1) if i < 10 else 0.01 * i)
        for size, label in enumerate(LABELS, 1)
        for i in range(20)
    ]
    pd.DataFrame(rows, columns=["type", "gene", "lfc"]).to_csv(file, sep="\t", index=False)
    return file


def known(effects: Path, labels: dict[str, list[str]] | None = None) -> list[str]:
    """Overrides that name the file of effects."""
    said = ",".join(f"{k}: [{', '.join(v)}]" for k, v in (labels or LABELS).items())
    node = (
        f"{{_target_: gradgene.evaluation.KnownEffects, file: {effects}, gene: gene, "
        f"log_fold_change: lfc, label: type, labels: {{{said}}}}}"
    )
    return [f"evaluation.effects={node}"]


def evaluate(data: Path, folder: Path, *more: str) -> None:
    for command in ("prune", "evaluate"):
        assert main([command, *words(data, folder, "pairs.max_pairs=12", *CUTS, *more)]) == 0


@pytest.mark.slow
def test_effects_by_label(folder: Path, cells_file: Path, effects: Path) -> None:
    evaluate(cells_file, folder, BY, *known(effects))
    found = read(folder, "attributions/effects").set_index(["ranking", "label"])
    assert set(found.index.get_level_values("label")) == set(LABELS)
    rankings = read(folder, "attributions/rankings_by_label")
    table = read(folder, "attributions/genes_by_label")
    published = pd.read_csv(effects, sep="\t").set_index(["type", "gene"])["lfc"]
    # One label by hand: score x direction of its own table.
    mine = table[(table["label"] == "B cell") & table["rank"].notna()].set_index("gene")
    sign = mine["direction"].map({"up": 1, "down": -1}).fillna(0)
    shared = mine.index.intersection(published["B cells"].index)
    for name in rankings["ranking"].unique():
        score = rankings[(rankings["ranking"] == name) & (rankings["label"] == "B cell")]
        score = score.set_index("gene")["score"]
        expected = stats.spearmanr(
            (score * sign).loc[shared].astype(float), published["B cells"].loc[shared]
        ).statistic
        assert found.loc[(name, "B cells"), "spearman"] == pytest.approx(expected, nan_ok=True)
        assert found.loc[(name, "B cells"), "n_genes"] == len(shared)
    # Two labels together: their mean scores weigh as their pairs.
    n_pairs = table[table["gene"] == "@disease"].set_index("label")["n_pairs"].astype(float)
    both = [label for label in LABELS["lymphocytes"] if label in n_pairs]
    assert len(both) == 2
    parts = rankings[rankings["ranking"] == "deeplift/forward"]
    parts = parts.pivot(index="gene", columns="label", values="score")
    score = (parts[both] * n_pairs[both]).sum(axis=1) / n_pairs[both].sum()
    genes = table[table["rank"].notna() & table["label"].isin(both)]
    genes = genes.pivot(index="gene", columns="label", values="log_fold_change")
    change = (genes * n_pairs[both]).sum(axis=1)
    shared = change.index.intersection(published["lymphocytes"].index)
    expected = stats.spearmanr(
        (score * np.sign(change)).loc[shared], published["lymphocytes"].loc[shared]
    ).statistic
    here = ("deeplift/forward", "lymphocytes")
    assert found.loc[here, "spearman"] == pytest.approx(expected)
    assert found.loc[here, "n_genes"] == len(shared)
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("deeplift/forward", "deeplift/forward/abs", "deg", "hvg", "random"):
        assert metrics[f"effects/{name}"] == pytest.approx(found.loc[name]["spearman"].median())
    assert metrics["effects/deg"] > 0.7, "the effects are those that were planted"


@pytest.mark.slow
def test_controls_are_made_on_held_out_cells_of_the_label(
    folder: Path, cells_file: Path, effects: Path
) -> None:
    evaluate(cells_file, folder, BY, *known(effects))
    found = read(folder, "attributions/effects").set_index(["ranking", "label"])["spearman"]
    report = json.loads((folder / "data_report.json").read_text())
    held = report["split"].removeprefix("held-out donors ").split(", ")
    cells = ad.read_h5ad(cells_file)
    cells = cells[(cells.obs["donor"].isin(held) & (cells.obs["cell_type"] == "B cell")).to_numpy()]
    counts = np.asarray(cells.X.todense(), dtype=float)
    mean_g = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4).mean(axis=0)
    table = read(folder, "attributions/genes_by_label")
    mine = table[(table["label"] == "B cell") & table["rank"].notna()].set_index("gene")
    published = pd.read_csv(effects, sep="\t").set_index(["type", "gene"])["lfc"]["B cells"]
    shared = mine.index.intersection(published.index)
    sign = np.sign(mine["log_fold_change"]).loc[shared]
    expression = pd.Series(mean_g, index=cells.var_names).loc[shared]
    expected = stats.spearmanr(expression * sign, published.loc[shared]).statistic
    assert found["expression", "B cells"] == pytest.approx(expected)
    expected = stats.spearmanr(mine["log_fold_change"].loc[shared], published.loc[shared]).statistic
    assert found["log_fold_change", "B cells"] == pytest.approx(expected)


@pytest.mark.slow
def test_without_tables_by_label_the_study_is_compared_with_each(
    cells_file: Path, tmp_path: Path, attributed: Path, effects: Path
) -> None:
    path = f"checkpoint.path={attributed}"
    line = words(cells_file, tmp_path / "new", path, "pairs.max_pairs=12", *CUTS, *known(effects))
    for command in ("attribute", "prune", "evaluate"):
        assert main([command, *line]) == 0
    found = read(tmp_path / "new", "attributions/effects").set_index(["ranking", "label"])
    assert set(found.index.get_level_values("label")) == set(LABELS)
    table = read(tmp_path / "new", "attributions/genes")
    genes = table[table["rank"].notna()].set_index("gene")
    published = pd.read_csv(effects, sep="\t").set_index(["type", "gene"])["lfc"]["lymphocytes"]
    shared = genes.index.intersection(published.index)
    product = (genes["score"] * np.sign(genes["log_fold_change"])).loc[shared]
    expected = stats.spearmanr(product, published.loc[shared]).statistic
    assert found.loc[("deeplift/forward", "lymphocytes"), "spearman"] == pytest.approx(expected)


@pytest.mark.slow
def test_gene_sets_and_files_that_change(folder: Path, cells_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("gseapy")
    sets = tmp_path / "sets.gmt"
    sets.write_text("CASE\t-\tg0\tg1\tg2\tg3\tg4\nOTHER\t-\tg20\tg21\n")
    line = [BY, f"evaluation.gene_sets=[{sets}]", "evaluation.top_k=6"]
    evaluate(cells_file, folder, *line)
    found = read(folder, "attributions/enrichment").set_index("gene_set")
    top = read(folder, "attributions/genes").nsmallest(6, "rank")["gene"]
    case = {f"g{i}" for i in range(5)}
    assert set(found.index) == {"CASE", "OTHER"}
    assert found.loc["CASE", "n_overlap"] == len(case.intersection(top)) > 0
    assert found.loc["CASE", "genes"] == ";".join(g for g in top if g in case)
    assert not (folder / "attributions" / "effects.parquet").exists()
    n = len(progress(folder))
    evaluate(cells_file, folder, *line)
    assert len(progress(folder)) == n, "nothing has changed"
    sets.write_text("CASE\t-\tg0\tg1\n")
    evaluate(cells_file, folder, *line)
    again = [stage["stage"] for stage in progress(folder)][n:]
    assert again == ["evaluate"], "the file of gene sets is another"
    assert list(read(folder, "attributions/enrichment")["gene_set"]) == ["CASE"]
    evaluate(cells_file, folder, BY)
    assert not (folder / "attributions" / "enrichment.parquet").exists()


@pytest.mark.slow
def test_faithfulness_of_every_method_and_control(folder: Path, cells_file: Path) -> None:
    node = (
        "evaluation.faithfulness={_target_: gradgene.evaluation.Faithfulness, max_pairs: 5, "
        "also: [grad_x_delta], n_sets: 9, n_draws: 1, n_searched: 2}"
    )
    evaluate(cells_file, folder, BY, node)
    found = read(folder, "evaluation/faithfulness").set_index(["method", "measure"])
    assert list(found.index.unique("method")) == [
        *("deeplift", "grad_x_delta", "random", "expression")
    ]
    by_method = found.reset_index().groupby("method")["measure"].agg(set)
    assert by_method["deeplift"] == set(MEASURES), "every measure there is"
    assert "infidelity" not in by_method["random"], "random scores are in no unit"
    assert by_method["expression"] == by_method["random"]
    assert (found["n_pairs"].drop(["relative_delta_p50", "relative_delta_p99"], level=1) <= 5).all()
    assert (found.xs("aopc_normalised", level=1)["n_pairs"] == 2).all()
    assert found["value"].notna().all()
    complete, other = (found["value"][m] for m in ("deeplift", "grad_x_delta"))
    assert complete["infidelity_scaled"] < other["infidelity_scaled"]
    assert ((found["ci_low"] <= found["value"]) | found["ci_low"].isna()).all()
    metrics = json.loads((folder / "metrics.json").read_text())
    for row in found.reset_index().to_dict("records"):
        name = f"faithfulness/{row['method']}/{row['measure']}"
        assert metrics[name] == pytest.approx(row["value"])
    ledger = read(folder, "attributions/pairs")["relative_delta"]
    assert complete["relative_delta_p50"] == pytest.approx(ledger.median())
    before = found.reset_index()
    (folder / "progress.jsonl").write_text(
        "".join((folder / "progress.jsonl").read_text().splitlines(keepends=True)[:-1])
    )
    evaluate(cells_file, folder, BY, node)
    pd.testing.assert_frame_equal(read(folder, "evaluation/faithfulness")[[*before]], before)
    evaluate(cells_file, folder, BY)
    assert not (folder / "evaluation" / "faithfulness.parquet").exists()
    assert "faithfulness/" not in (folder / "metrics.json").read_text()


def test_what_cannot_be_judged_is_refused_before_work(
    cells_file: Path, tmp_path: Path, effects: Path, refused
) -> None:
    def error(*more: str) -> str:
        return refused("study", *words(cells_file, tmp_path / "run", *more))

    said = error(BY, *known(effects, {"B cells": ["B cel"]}))
    assert "evaluation.effects.labels: no cell has the cell_type 'B cel'" in said
    assert "'B cell'" in said
    said = error(BY, *known(effects, {"B cell": ["B cell"]}))
    assert "evaluation.effects.labels" in said and "no effect of 'B cell'" in said
    said = error(*known(tmp_path / "nowhere.tsv"))
    assert "evaluation.effects.file: no such file" in said
    sets = tmp_path / "sets.gmt"
    sets.write_text("CASE\t-\tENSG01\tENSG02\n")
    said = error(f"evaluation.gene_sets=[{sets}]")
    assert "evaluation.gene_sets: no gene is in the model's panel" in said and "ENSG01" in said
    node = "evaluation.faithfulness={_target_: gradgene.evaluation.Faithfulness, also: [deeplif]}"
    said = error(node)
    assert "evaluation.faithfulness.also: no attribution 'deeplif'" in said
    assert not list((tmp_path / "run").rglob("*.ckpt"))
