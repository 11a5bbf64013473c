"""Tables of several runs: one row a run that can be read, medians over repeats and nothing else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from gradgene.commands.report.curves import run_settings
from gradgene.commands.report.tables import median_rankings, print_runs
from gradgene.reports import JoinedRuns, Measure, RunFiles

METHODS = ("deeplift", "grad_x_delta", "integrated_gradients", "gradient_shap", "gim", "random")
BASELINES = ("cell_state", "empty", "zero", "mean")
TITLES = (
    "Balanced accuracy of the model",
    "AUROC of the model",
    "Known genes of the best 30",
    "Area to random, least important first",
    "Area to random, most important first",
    "Balanced accuracy on the best 5 %",
    "Balanced accuracy without the best 2 %",
    "Swap-gap of the scores",
    "Relative delta, median",
    "Relative delta, 99 %",
)


def run_of(name: str, method: str, baseline: str, seed: int = 0, **metrics: Any) -> RunFiles:
    genes = pd.DataFrame({"gene": ["A"], "score": [1.0], "rank": [1], "direction": ["up"]})
    return RunFiles(
        path=Path(f"sweep/{name}"),
        config={"study": {"seed": seed}},
        metrics=metrics,
        genes=genes.assign(method=method, baseline=baseline),
    )


def recovered(known: float) -> dict[str, Any]:
    return {"recovery/hvg@30": known}


def joined_of(runs: list[RunFiles], **more: Any) -> JoinedRuns:
    measures = [[Measure(t, 0.123456 + i) for t in TITLES] for i in range(len(runs))]
    return JoinedRuns(tuple(runs), tuple(measures), run_settings(runs), "line", **more)


def grid() -> list[RunFiles]:
    """The 24 runs of `sweep=methods_x_baselines`."""
    pairs = [(m, b) for m in METHODS for b in BASELINES]
    return [run_of(f"attribution={m},baseline={b}", m, b) for m, b in pairs]


def agreement(n: int) -> pd.DataFrame:
    return pd.DataFrame({"first": ["a"] * n, "second": "b", "spearman": 0.5})


def printed(joined: JoinedRuns, *, terminal: bool = False, written: bool = True) -> list[str]:
    """Lines as they are printed where 80 columns are known of, without colours."""
    console = Console(
        file=io.StringIO(), width=80, force_terminal=terminal, color_system=None, soft_wrap=True
    )
    print_runs(joined, console, written=written)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def rows(lines: list[str]) -> list[list[str]]:
    found = [line.strip("│").split("│") for line in lines if line.startswith("│")]
    return [[cell.strip() for cell in row] for row in found]


def test_a_row_for_each_of_24_runs() -> None:
    lines = printed(joined_of(grid(), agreement=agreement(276)))
    assert max(map(len, lines)) <= 160
    found = rows(lines)
    assert len(found) == 24, "no row is broken over lines, and nothing else is printed"
    assert found[0] == ["deeplift", "cell_state", *["0.123"] * 10]
    assert found[10] == ["integrated_gradients", "zero", *["10.1"] * 10]
    assert lines[-1] == "also written: agreement of the runs (agreement.csv)"
    lines = printed(joined_of(grid(), agreement=agreement(276)), written=False)
    assert lines[-1].startswith("not shown, written by out=FOLDER: agreement")


def test_a_narrow_terminal_shows_fewer_figures_in_full() -> None:
    lines = printed(joined_of(grid()[:3]), terminal=True)
    tables = [line for line in lines if line[:1] in "┏┃┡│└"]
    assert max(map(len, tables)) <= 80
    found = rows(lines)
    assert [row[0] for row in found] == ["cell_state", "empty", "zero"]
    n = len(found[0]) - 1
    assert 3 <= n < 10 and found[0][1:] == ["0.123"] * n
    assert lines[-1] == f"also written: {10 - n} columns of the table of runs"


def test_repeats_have_a_median() -> None:
    runs = [run_of(str(seed), "gim", "zero", seed) for seed in (3, 4, 5)]
    found = rows(printed(joined_of(runs, agreement=agreement(3))))
    assert [row[0] for row in found[:4]] == ["3", "4", "5", "median"]
    assert found[3][1] == "1.12" and len(found) == 7


def test_runs_that_nothing_tells_apart_go_by_their_folders() -> None:
    found = rows(printed(joined_of([run_of(name, "gim", "zero") for name in "ab"])))
    assert [row[0] for row in found] == ["a", "b", "median"]


def test_medians_are_over_repeats_alone() -> None:
    runs = [
        run_of(f"{baseline}{seed}", "deeplift", baseline, seed, **recovered(known))
        for baseline, values in (("zero", (1.0, 2.0, 6.0)), ("empty", (20.0, 30.0)))
        for seed, known in enumerate(values)
    ]
    found = median_rankings(runs)
    assert list(found) == ["ranking", "baseline", "known of top 30"]
    assert found.to_numpy().tolist() == [["hvg", "empty", 25.0], ["hvg", "zero", 2.0]]
    assert list(median_rankings(runs[:3])) == ["ranking", "known of top 30"]
    assert list(median_rankings([run_of("a", "gim", "zero")])) == ["ranking"]


@pytest.mark.parametrize("kinds", [("deg", "attribution"), ("deg", "hvg")])
def test_the_ranking_of_a_run_is_a_setting_like_others(kinds: tuple[str, str]) -> None:
    runs = [run_of(kind, "gim", "zero", **recovered(4.0)) for kind in kinds]
    for run, kind in zip(runs, kinds, strict=True):
        assert run.config is not None
        run.config["ranking"] = {"kind": kind, "importance": "forward"}
    found = median_rankings(runs)
    mains = ["gim/forward" if kind == "attribution" else kind for kind in kinds]
    assert found["ranking"].tolist() == ["hvg", "hvg"]
    assert found["main ranking"].tolist() == mains
