"""Every method is measured on the same pairs, goals are shown, and the pictures are drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from gradgene.attribution import METHODS
from gradgene.commands.benchmark import attribution as benchmark_attribution
from gradgene.commands.benchmark import attribution_case as benchmark_attribution_case
from gradgene.commands.benchmark import command as benchmark
from gradgene.commands.benchmark.attribution import Settings, measure
from gradgene.commands.benchmark.attribution_case import (
    TARGET,
    Case,
    accuracy,
    crossed_pairs,
    draw_cells,
    matched_pairs,
    train,
    vocabulary_of,
)
from gradgene.commands.benchmark.attribution_goals import crossed_figures, ratio_figures
from gradgene.commands.benchmark.attribution_memory import (
    FULL,
    Shape,
    fit_memory,
    memory_figures,
    random_case,
)
from gradgene.commands.benchmark.attribution_methods import (
    GRADIENT,
    ONE_FORWARD_A_GENE,
    Job,
    MethodRun,
    benchmarked,
    method_table,
    run_alone,
    stacked_gradient,
)
from gradgene.commands.benchmark.figures import Findings, in_fresh_process
from gradgene.errors import ConfigError
from gradgene.models import PhenotypeGeneTransformer

TOY = Settings(
    genes=160,
    short_genes=12,
    short_pairs=4,
    repeats=2,
    turns=1,
    long_genes=24,
    long_pairs=2,
    inputs=3,
    baselines=2,
    captum_pairs=1,
    n_steps=2,
    dim=16,
    n_layers=2,
    n_heads=2,
    hidden_dim=32,
    train_cells=60,
    train_steps=2,
    train_genes=8,
    memory=True,
    memory_genes=(20, 40),
    memory_layers=(1, 2),
    memory_pairs=2,
    memory_dim=16,
    memory_heads=2,
)


@pytest.fixture(scope="module")
def model() -> PhenotypeGeneTransformer:
    """An untrained small model of 160 genes."""
    torch.manual_seed(0)
    vocabulary = vocabulary_of(draw_cells(40, 160, 12, seed=0))
    return PhenotypeGeneTransformer(vocabulary, dim=16, n_layers=1, n_heads=2, hidden_dim=32)


@pytest.fixture(scope="module")
def case(model: PhenotypeGeneTransformer) -> Case:
    """Four matched pairs."""
    return matched_pairs(model, draw_cells(60, 160, 12, seed=1), 4, 0, "cpu")


@pytest.fixture(scope="module")
def findings() -> Findings:
    """The whole benchmark at toy size, without processes of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_attribution, "in_fresh_process", lambda work, job: work(job))
        return measure(TOY, Console(quiet=True))


def test_every_method_is_there_with_finite_values(findings: Findings) -> None:
    short, long = findings.tables["methods"], findings.tables["methods_long"]
    assert set(short["method"]) == set(METHODS)
    assert set(long["method"]) == {GRADIENT, *METHODS} - ONE_FORWARD_A_GENE
    numbers = "n_pairs seconds_per_pair captum_ratio peak_mb added_mb delta_median delta_max"
    columns = [*numbers.split(), "gap", "gap_low", "gap_high"]
    assert np.isfinite(short[columns].to_numpy(dtype=float)).all()
    scored = long[long["method"] != GRADIENT]
    assert np.isfinite(scored[numbers.split()].to_numpy(dtype=float)).all()
    assert (short["delta_median"] <= short["delta_max"]).all()
    assert (short["gap_low"] <= short["gap"]).all() and (short["gap"] <= short["gap_high"]).all()
    assert set(short["n_pairs"]) == {4} and set(long["n_pairs"]) == {2}


def test_complete_methods_are_and_captum_is_our_gradient(findings: Findings) -> None:
    table = findings.tables["methods"].set_index("method")
    # Of a model that hardly knows anything, f differs by little more than it is rounded.
    worst = table["delta_max"].astype(float).to_dict()
    assert worst["deeplift"] < 0.02 * worst["captum_deeplift"]
    for column in ("delta_median", "delta_max", "gap"):
        ours, theirs = table.loc["grad_x_delta", column], table.loc["captum_deeplift", column]
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-6)
    assert table.loc["captum_deeplift", "captum_ratio"] == 1


def test_every_timed_run_is_in_the_raw_table(findings: Findings) -> None:
    runs = findings.tables["runs"]
    assert list(runs)[:6] == ["pairs", "method", "turn", "run", "n_pairs", "seconds"]
    counts = runs.groupby(["pairs", "method"]).size()
    assert set(counts.xs("long")) == {TOY.turns}
    assert counts["short", "deeplift"] == TOY.repeats and counts["short", "swap_occlusion"] == 1
    assert len(findings.tables["crossed"]) == 4 * TOY.turns
    assert set(findings.tables["crossed"]["n_pairs"]) == {6, 3, 1}


def test_goals_are_shown(findings: Findings) -> None:
    goals = {(f.part, f.name): f.goal for f in findings.figures if f.goal}
    assert goals == {
        ("deeplift", "time / one gradient"): "≤ 4",
        ("integrated_gradients", "speed, ours / Captum"): "≥ 3",
        ("grad_x_delta", "speed, ours / Captum"): "≥ 30",
        ("grad_x_delta", "cost of all baselines / one"): "≤ 1.3",
        ("grad_x_delta", "joins"): "≤ 20",
        ("deeplift memory", "extrapolated"): "≤ 24",
    }
    for figure in findings.figures:
        assert figure.value is None or np.isfinite(figure.value), figure
    assert 0 <= findings["model", "accuracy"] <= 1


def test_pictures_and_tables_are_written(findings: Findings, tmp_path: Path) -> None:
    benchmark.write(tmp_path, {"benchmark": "attribution"}, findings)
    for name in ("methods", "memory"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()
    assert len(pd.read_csv(tmp_path / "memory.csv")) == 4
    assert set(pd.read_csv(tmp_path / "methods.csv")["method"]) == set(METHODS)


def test_a_case_survives_the_way_to_another_process(case: Case, tmp_path: Path) -> None:
    again = Case.read(case.write(tmp_path / "case"))
    for name, tensor in case.tokens.tensors().items():
        assert torch.equal(tensor, again.tokens.tensors()[name])
    ours, theirs = (
        benchmarked("deeplift", 1).attribute(c.model, c.blended(), TARGET) for c in (case, again)
    )
    assert torch.equal(ours.forward.scores_pt, theirs.forward.scores_pt)


def test_pairs_are_of_the_contrast_and_share_cells(model: PhenotypeGeneTransformer) -> None:
    cells = draw_cells(60, 160, 12, seed=1)
    crossed = crossed_pairs(model, cells, inputs=5, baselines=3, device="cpu")
    slot = model.vocabulary.slot(TARGET.category)
    labels_n = crossed.tokens.input_ids_nt[:, slot]
    for rows, label in ((crossed.input_rows, TARGET.label), (crossed.baseline_rows, "normal")):
        wanted = model.vocabulary.label_id(TARGET.category, label)
        assert (labels_n[rows] == wanted).all()
        assert rows.unique(return_counts=True)[1].tolist() == [3] * 5
    pairs = torch.stack([crossed.input_rows, crossed.baseline_rows], dim=1)
    assert len(pairs.unique(dim=0)) == 15
    first = crossed.first(2)
    assert len(first) == 2 and len(first.tokens) == 3


def test_training_teaches_the_planted_genes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_attribution_case, "LEARNING_RATE", 5e-3)  # for a small model
    cells = draw_cells(500, 600, 60, seed=0)
    torch.manual_seed(0)
    model = PhenotypeGeneTransformer(
        vocabulary_of(cells), dim=32, n_layers=1, n_heads=2, hidden_dim=64, dropout=0
    )
    held_out = cells.take(np.arange(400, 500))
    assert accuracy(model, held_out) < 0.7
    train(model, cells.take(np.arange(400)), steps=120, genes=60, seed=0)
    assert accuracy(model, held_out) > 0.8
    assert not model.training


def test_no_step_leaves_the_weights_random(model: PhenotypeGeneTransformer) -> None:
    before = [weight.detach().clone() for weight in model.parameters()]
    train(model, draw_cells(40, 160, 12, seed=0), 0, 10, seed=0)
    assert all(map(torch.equal, before, model.parameters()))


def test_the_yardstick_is_the_gradient_of_both_members(case: Case) -> None:
    """Gradient times difference of its input rows is what `grad_x_delta` scores."""
    blended = case.blended()
    gradient_ntd = stacked_gradient(case.model, blended)
    assert len(gradient_ntd) == 2 * len(case)
    difference_ptd = case.model.embed(blended.input) - case.model.embed(blended.baseline)
    slot = case.model.vocabulary.slot(TARGET.category)
    scores_pt = (gradient_ntd[: len(case)] * difference_ptd).sum(dim=-1)
    scores_pt = scores_pt.masked_fill(~blended.input.attention_mask_nt, 0)
    expected = benchmarked("grad_x_delta", 1).attribute(case.model, blended, TARGET)
    scores_pt[:, slot] = 0  # masked in both members only where a method is asked
    torch.testing.assert_close(scores_pt, expected.forward.scores_pt, rtol=1e-4, atol=1e-6)


def test_a_job_times_as_often_as_asked(case: Case, tmp_path: Path) -> None:
    folder = str(case.write(tmp_path / "case"))
    run = run_alone(Job(folder, "grad_x_delta", n_steps=2, repeats=3, gap=True))
    assert len(run.seconds) == 3 and min(run.seconds) > 0 and run.peak_mb >= run.before_mb > 0
    assert len(run.relative_delta_p) == 4 and run.gap is not None and run.gpu_mb is None
    assert run_alone(Job(folder, GRADIENT, n_steps=2)).relative_delta_p == ()


@pytest.mark.slow
def test_a_process_of_its_own_gives_the_same(case: Case, tmp_path: Path) -> None:
    job = Job(str(case.write(tmp_path / "case")), "deeplift", n_steps=2, gap=True)
    alone, here = in_fresh_process(run_alone, job), run_alone(job)
    assert alone.gap == pytest.approx(here.gap) and alone.n_pairs == here.n_pairs
    assert alone.before_mb < here.before_mb


def made(method: str, *seconds: float) -> list[MethodRun]:
    """Two pairs, a run a turn."""
    return [MethodRun(method, 2, (s,), 100, 150, None, (0.1, 0.3)) for s in seconds]


def test_ratios_are_those_of_a_turn() -> None:
    """A machine that slows down fourfold in the second turn changes none."""
    runs = {
        GRADIENT: made(GRADIENT, 1, 4),
        "deeplift": made("deeplift", 3, 12),
        "integrated_gradients": made("integrated_gradients", 2, 8),
        "captum_integrated_gradients": made("captum_integrated_gradients", 5, 20),
    }
    cost, faster = ratio_figures(runs, 20)
    assert (cost.value, cost.met) == (3, True) and (faster.value, faster.met) == (2.5, False)
    assert "3.00 to 3.00 over 2 turns" in cost.note and "20 steps" in faster.note


def test_crossed_ratios_by_hand() -> None:
    """8 pairs in 4 s, 4 in 3.2 s, joins 0.4 s; Captum takes 20 s a pair."""
    rows = [("every baseline", 8, 4), ("one baseline an input", 4, 3.2), ("joins", 8, 0.4)]
    table = pd.DataFrame(
        [
            {"turn": turn, "what": what, "n_pairs": n, "seconds": factor * seconds}
            for turn, factor in ((0, 1), (1, 3))
            for what, n, seconds in (*rows, ("captum_deeplift", 2, 40))
        ]
    )
    found = {f.name: f.value for f in crossed_figures(table, inputs=4)}
    assert found["a pair, both directions"] == pytest.approx(1.0)  # median of 0.5 and 1.5
    assert found["speed, ours / Captum"] == pytest.approx(40)
    assert found["cost of all baselines / one"] == pytest.approx(1.25)
    assert found["joins"] == pytest.approx(10)


def test_a_table_row_is_the_median_of_runs() -> None:
    runs = {"a": made("a", 2, 4, 60), "captum_deeplift": made("captum_deeplift", 8)}
    row = method_table(runs).set_index("method").loc["a"]
    assert row["seconds_per_pair"] == 2 and row["captum_ratio"] == 2 and row["added_mb"] == 50
    assert row["delta_median"] == pytest.approx(0.2) and row["delta_max"] == pytest.approx(0.3)


def memory_table(n_layers: tuple[int, ...], pairs: int = FULL.n_pairs) -> pd.DataFrame:
    """Runs that add exactly 10 MB and 1 + 0.1 a layer MB a gene, beside 500 MB."""
    rows: list[dict[str, Any]] = [
        {"n_genes": g, "n_layers": n, "n_pairs": pairs, "dim": 768, "before_mb": 500.0}
        for n in n_layers
        for g in (500, 1000, 2000)
    ]
    table = pd.DataFrame(rows)
    return table.assign(added_mb=10 + table["n_genes"] * (1 + 0.1 * table["n_layers"]))


def test_memory_is_fitted_and_extrapolated() -> None:
    table = memory_table((2, 4))
    np.testing.assert_allclose(fit_memory(table), [10, 1, 0.1], rtol=1e-6)
    straight, total = memory_figures(table, None)
    assert straight.value == pytest.approx(0, abs=1e-6)
    layers = 8 * 12 * 768**2 * 4  # weights of eight more layers
    assert total.value == pytest.approx(((510 + 3500 * 2.2) * 2**20 + layers) / 1e9)
    assert total.met and memory_figures(memory_table((2, 4), 2), None)[1].value is None


def test_one_depth_is_extrapolated_as_if_all_were_layers() -> None:
    np.testing.assert_allclose(fit_memory(memory_table((2,))), [10, 0, 0.6], rtol=1e-6)


def test_a_full_run_stands_for_itself() -> None:
    measured = {"n_genes": 3500.0, "n_layers": 12, "n_pairs": 8, "seconds": 3, "peak_mb": 30_000}
    (figure,) = memory_figures(pd.DataFrame(), measured)
    assert figure.value == pytest.approx(30_000 * 2**20 / 1e9) and figure.met is False


def test_pairs_of_the_memory_part_have_the_union_asked_for() -> None:
    blended = random_case(Shape(n_genes=50, n_layers=1, n_pairs=3, dim=8, n_heads=2)).blended()
    assert ((blended.gene_ids_pt >= 0).sum(dim=1) == 50).all()
    both = (blended.input.gene_ids_nt >= 0) & (blended.baseline.gene_ids_nt >= 0)
    assert (both.sum(dim=1) == 40).all()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"dim": 0}, "dim"),
        ({"baselines": 65}, "baselines"),
        ({"memory": True, "memory_genes": (0,)}, "memory_genes"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        replace(Settings(), **wrong)


@pytest.mark.gpu
def test_cuda_scores_as_the_cpu_does(case: Case, tmp_path: Path) -> None:
    folder = str(case.write(tmp_path / "case"))
    ours, found = (
        run_alone(Job(folder, "grad_x_delta", 2, gap=True, device=d)) for d in ("cpu", "cuda")
    )
    assert found.gap == pytest.approx(ours.gap, rel=1e-2) and (found.gpu_mb or 0) > 0
