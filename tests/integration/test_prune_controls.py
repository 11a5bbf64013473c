"""Controls and retraining of a whole study: every kind of ranking is pruned by."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from gradgene.cells import log_normalise
from gradgene.commands.main import main
from gradgene.commands.prune import retrain as prune_retrain
from gradgene.commands.prune.controls import check_controls, control_rankings
from gradgene.commands.prune.retrain import chosen_rankings, without_genes
from gradgene.commands.run.workspace import Workspace
from gradgene.commands.train.stage import fit
from gradgene.errors import ConfigError, RankingError
from gradgene.genes import Importance
from gradgene.genes.importance import IMPORTANCES
from gradgene.plotting import CONTROLS
from gradgene.pruning import GeneRanking, PruningSettings
from gradgene.pruning.controls import matched_groups
from tests.integration.tiny import read, run_all_stages, words, write_cells
from tests.planted import make_cells

#: Two shares of one order, without evaluation.
FEW = (
    "pruning.ratios={lowest_first:[0.0,0.5],highest_first:[0.5]}",
    "pruning.n_random=2",
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, cells_file: Path) -> tuple[Path, list[str]]:
    """A study pruned by every ranking and control, retrained without half of the genes."""
    folder = tmp_path_factory.mktemp("study") / "run"
    more = ["pruning.rankings=all", f"pruning.controls=[{','.join(CONTROLS)}]"]
    more += ["pruning.retrain=[0.5]", "study.compare=[grad_x_delta]", *FEW]
    run_all_stages(cells_file, folder, *more)
    return folder, [*words(cells_file, folder, *more)]


def value(curves: pd.DataFrame, ranking: str, order: str, ratio: float) -> float:
    """The mean probability of the true label at one point."""
    at = (curves["ranking"] == ranking) & (curves["order"] == order) & (curves["ratio"] == ratio)
    at &= (curves["arm"] == "both") & (curves["metric"] == "probability")
    return float(curves.loc[at, "value"].item())


@pytest.mark.slow
def test_every_ranking_is_pruned_by(study: tuple[Path, list[str]]) -> None:
    folder, _ = study
    curves = read(folder, "pruning/curves")
    names = set(curves["ranking"])
    assert set(CONTROLS) <= names
    made = {
        f"{method}/{importance.name}{sign}"
        for method in ("deeplift", "grad_x_delta")
        for importance in Importance.meaningful(method, "cell_state", "margin")
        for sign in ("", "/abs")
    }
    assert made == names - {*CONTROLS}
    # All there are, but the one that is for the empty baseline.
    assert {name.split("/")[1] for name in made} == {*IMPORTANCES} - {"paper_empty"}
    draws = curves.groupby("ranking")["draw"].nunique()
    assert draws["random"] == draws["random_matched"] == 2 and draws["hvg_batch"] == 1
    # All are written, best gene first, whatever they were made of.
    assert set(read(folder, "pruning/rankings")["ranking"]) == names


@pytest.mark.slow
def test_retrained_models_are_judged(study: tuple[Path, list[str]]) -> None:
    folder, _ = study
    found = read(folder, "pruning/retrained")
    assert list(dict.fromkeys(found["ranking"])) == ["deeplift/forward", "hvg", "deg", "random"]
    assert set(found["ratio"]) == {0.0, 0.5} and set(found["order"]) == {"highest_first"}
    curves = read(folder, "pruning/curves")
    # Ratio 0 is the study's own model with every gene.
    own = value(curves, "hvg", "lowest_first", 0.0)
    assert value(found, "hvg", "highest_first", 0.0) == pytest.approx(own, abs=1e-6)
    assert {*found["arm"]} == {"input", "baseline", "both"} and found["n_donors"].max() >= 1
    # A new model, not the old one with genes taken away.
    cut = value(curves, "hvg", "highest_first", 0.5)
    assert abs(value(found, "hvg", "highest_first", 0.5) - cut) > 1e-6
    assert not list(folder.glob("pruning/retrain/*/checkpoints"))


@pytest.mark.slow
def test_retraining_goes_on_where_it_stopped(
    study: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, line = study
    before = read(folder, "pruning/retrained")
    again = tmp_path / "run"
    shutil.copytree(folder, again)
    lost = sorted((again / "pruning" / "retrain").iterdir())[0]
    shutil.rmtree(lost)
    with (again / "progress.jsonl").open() as file:
        kept = [text for text in file if '"prune"' not in text]
    (again / "progress.jsonl").write_text("".join(kept))
    trained = []

    def counted(work: Workspace) -> None:
        trained.append(work.folder.name)
        fit(work)

    monkeypatch.setattr(prune_retrain, "fit", counted)
    moved = [word.replace(str(folder), str(again)) for word in line]
    assert main(["prune", *moved]) == 0
    assert trained == [lost.name]
    np.testing.assert_allclose(read(again, "pruning/retrained")["value"], before["value"])
    # A study that does not ask for it keeps no table of another one.
    assert main(["prune", *moved, "pruning.retrain=[]"]) == 0
    assert not (again / "pruning" / "retrained.parquet").exists()


def stand_in(kind: str, **facts: object) -> Any:
    """What making controls asks of a workspace, for a study about the control `kind`."""
    leaf = {"_target_": "gradgene.pruning.RankingChoice", "kind": kind}
    labels = {"target": "disease", "input": "case", "baseline": "control", "seed": 0}
    facts = {**labels, "donor": None, "batch": None, **facts}
    cfg = OmegaConf.create({"ranking": leaf})
    return SimpleNamespace(cfg=cfg, facts=SimpleNamespace(**facts), console=Console())


def test_controls_over_donors_are_left_out_without_donors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells = log_normalise(make_cells(n=40, donor=False))
    settings = PruningSettings((0.5,), controls=("hvg_batch", "deg_pseudobulk", "deg"), n_random=1)
    made = control_rankings(stand_in("random"), settings, cells, [])
    assert [r.name for r in made] == ["deg", "random"]
    said = " ".join(capsys.readouterr().out.split())
    assert "left out hvg_batch: hvg_batch needs batches" in said
    assert "left out deg_pseudobulk: deg_pseudobulk needs donors" in said
    # What the study is about cannot be left out.
    with pytest.raises(RankingError, match="needs donors"):
        control_rankings(stand_in("deg_pseudobulk"), settings, cells, [])
    with pytest.raises(ConfigError, match=r"expected a column in study.donor$"):
        check_controls(stand_in("deg_pseudobulk"))
    check_controls(stand_in("hvg_batch", donor="donor"))


def test_matched_draws_follow_what_the_study_is_about() -> None:
    cells = log_normalise(make_cells(n=40, n_genes=60))
    settings = PruningSettings((0.5,), controls=("random_matched",), n_random=3)
    made = control_rankings(stand_in("expression"), settings, cells, [])
    assert [r.name for r in made] == ["expression", *["random_matched"] * 3]
    group_g = matched_groups(cells)
    for draw in made[1:]:
        np.testing.assert_array_equal(group_g[draw.best_first], group_g[made[0].best_first])


def test_a_finished_model_is_not_trained_again(tmp_path: Path, refused: Callable[..., str]) -> None:
    data = write_cells(tmp_path / "cells.h5ad")
    line = words(data, tmp_path / "run", "checkpoint.path=best.ckpt", "pruning.retrain=[0.5]")
    assert "no training to repeat" in refused("prune", *line)


def test_a_model_that_knew_the_genes_is_not_trained_again(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    data = write_cells(tmp_path / "cells.h5ad")
    begun = ["model=pretrained", f"model.path={tmp_path}", "pruning.retrain=[0.5]"]
    line = [w for w in words(data, tmp_path / "run") if not w.startswith("model.")]
    assert "has seen the genes" in refused("study", *line, *begun)


def test_the_first_draw_of_each_is_retrained() -> None:
    genes = ("a", "b")
    names = ["gim/forward", "random", "random", "hvg_batch", "deg"]
    rankings = [GeneRanking(n, genes, np.zeros(2), i) for i, n in enumerate(names)]
    chosen = chosen_rankings(rankings, "gim/forward")
    assert [(r.name, r.draw) for r in chosen] == [("gim/forward", 0), ("deg", 4), ("random", 1)]
    assert [r.name for r in chosen_rankings(rankings, "deg")] == ["deg", "random"]


def test_removed_genes_are_not_expressed() -> None:
    cells = make_cells(n=12, n_genes=20)
    keep_g = np.arange(20) % 3 > 0
    fewer = without_genes(cells, keep_g)
    dense = fewer.matrix_ng.toarray()
    np.testing.assert_array_equal(dense[:, keep_g], cells.matrix_ng.toarray()[:, keep_g])
    assert not dense[:, ~keep_g].any() and fewer.matrix_ng.nnz == (dense > 0).sum()
    assert fewer.genes == cells.genes and cells.matrix_ng.toarray()[:, ~keep_g].any()
