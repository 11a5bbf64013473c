"""Faithfulness in the report: a row a measure, intervals told for what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from gradgene import plotting
from gradgene.reports import RunFiles, write_report
from gradgene.reports.faithfulness import faithfulness_cautions
from gradgene.reports.figures import _figures
from gradgene.reports.sections import faithfulness_note, faithfulness_table, other_metrics
from gradgene.reports.verdict import cautions
from tests.reports.synthetic import gene_table, write_run


def measured(over: str = "donors", n_donors: int = 4) -> pd.DataFrame:
    """Two measures of a method and chance, and one of all pairs of the method alone."""
    columns = "method measure value ci_low ci_high interval_over n_pairs n_donors higher_is_better"
    nan = float("nan")
    rows = [
        ("deeplift", "swap_gap", 0.8, 0.7, 0.9, over, 64, n_donors, True),
        ("deeplift", "sufficiency", -0.25, nan, nan, over, 64, n_donors, False),
        ("deeplift", "relative_delta_p50", 1e-7, nan, nan, "", 500, n_donors, False),
        ("random", "swap_gap", 0.01, -0.1, 0.12, over, 64, n_donors, True),
        ("random", "aopc_normalised", 0.5, 0.4, 0.6, over, 8, n_donors, True),
        ("deeplift", "swap_gap_beyond_random", 0.79, 0.6, 0.9, over, 64, n_donors, True),
    ]
    return pd.DataFrame(rows, columns=columns.split()).assign(seed=0)


def run_of(frame: pd.DataFrame | None) -> RunFiles:
    return RunFiles(path=Path("run"), faithfulness=frame)


def test_a_row_a_measure_and_a_column_a_method() -> None:
    table = faithfulness_table(run_of(measured()))
    assert table is not None
    assert table.headings == ("Measure", "deeplift", "random", "Asks", "Source")
    rows = {row[0]: row for row in table.rows}
    assert rows["Swap-gap ↑"][1:3] == ("0.8 (0.7 to 0.9)", "0.01 (-0.1 to 0.12)")
    assert rows["Sufficiency ↓"][1:3] == ("-0.25", "–")
    assert rows["Sufficiency ↓"][-1] == "DeYoung et al. 2020"
    assert len(rows) == 5, "no measure without a value"


def test_what_intervals_are_over_is_said() -> None:
    said = faithfulness_note(run_of(measured())) or ""
    assert "64 held-out pairs" in said and "AOPC of 8" in said and "over donors" in said
    few = faithfulness_note(run_of(measured("input cells", 2))) or ""
    assert "over input cells of 2 donors" in few and "no more" in few
    none = faithfulness_note(run_of(measured("input cells", 0))) or ""
    assert "over input cells, which" in none


@pytest.mark.parametrize("frame", [None, measured().iloc[:0]])
def test_nothing_measured_nothing_shown(frame: pd.DataFrame | None) -> None:
    assert faithfulness_table(run_of(frame)) is None and faithfulness_note(run_of(frame)) is None


@pytest.mark.parametrize(
    ("value", "low", "warned"),
    [
        (0.8, 0.12, False),
        (0.1, -0.02, True),
        (0.1, float("nan"), False),
        (-0.3, float("nan"), True),
        (float("nan"), float("nan"), False),
    ],
)
def test_scores_no_better_than_chance_are_warned_of(value: float, low: float, warned: bool) -> None:
    frame = measured()
    frame.loc[5, "value"], frame.loc[5, "ci_low"] = value, low
    genes = gene_table(20).assign(method="deeplift")
    run = RunFiles(path=Path("run"), faithfulness=frame, genes=genes)
    said = [c for c in cautions(run) if "does not follow" in c.title]
    assert bool(said) is warned
    if said:
        assert said[0].level == "warning" and f"beyond random {value}" in said[0].text
    assert not [*faithfulness_cautions(RunFiles(path=Path("run"), genes=genes))]
    alone = RunFiles(path=Path("run"), genes=genes, faithfulness=frame.iloc[:5])
    assert not [*faithfulness_cautions(alone)]


def test_the_page_has_the_section_and_its_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: dict[str, Any] = {
        "evaluation/faithfulness.parquet": measured(),
        "metrics.json": {"faithfulness/deeplift/swap_gap": 0.8, "other/thing": 1.0},
    }
    run = RunFiles.read(write_run(tmp_path, parts, n_genes=60))
    page = write_report(run, {}).read_text(encoding="utf-8")
    assert 'id="faithfulness"' in page and "Swap-gap ↑" in page and "Samek" not in page
    rest = other_metrics(run)
    assert rest is not None and [row[0] for row in rest.rows] == ["other/thing"]
    drawn: list[pd.DataFrame] = []
    monkeypatch.setattr(plotting, "faithfulness_measures", drawn.append)
    dict(_figures(run))["faithfulness"]()
    assert drawn[0]["title"].tolist() == [
        *("Swap-gap ↑", "Swap-gap ↑", "Sufficiency ↓", "AOPC, normalised ↑")
    ]


def test_figure_has_a_panel_a_measure_and_a_line_for_chance() -> None:
    frame = measured()
    frame = frame[frame["interval_over"] != ""].assign(title=lambda t: t["measure"])
    figure: Figure = plotting.faithfulness_measures(frame)
    panels = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in panels] == frame["measure"].unique().tolist()
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["deeplift", "random"]
    chance = [line for line in panels[0].lines if line.get_linestyle() == "--"]
    assert chance[0].get_xdata()[0] == 0.01  # type: ignore[index]
    bottom, top = panels[0].get_ylim()
    assert bottom > top, "the first method is on top"
