"""The published figures anew: what is run, what is kept, what is drawn."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from experiments import paper_figures
from gradgene import plotting
from tests.reports.synthetic import curves_table


def toy() -> pd.DataFrame:
    """Few curves of every metric and arm that is kept, and one that is not."""
    curves = curves_table()
    curves = curves[curves["ranking"].isin(["deeplift/forward", "hvg", "random", "deg"])]
    parts = [
        curves.assign(arm=arm, metric=metric)
        for metric in (*plotting.PAPER_METRICS, "auroc")
        for arm in ("input", "baseline")
    ]
    frame = pd.concat([*parts, curves], ignore_index=True)
    return frame.assign(rank_source="held_out", draw=frame["draw"].fillna(0))


def test_what_is_kept_is_what_was_measured(tmp_path: Path) -> None:
    curves = toy()
    paper_figures.wide(curves).to_csv(tmp_path / "curves.csv", index=False)
    read = paper_figures.long(pd.read_csv(tmp_path / "curves.csv"))
    kept = curves[curves["metric"] != "auroc"]
    by = [*paper_figures.POINT, "ratio"]
    both = kept.merge(read, on=by, suffixes=("", "_read"), validate="1:1")
    assert len(both) == len(kept) == len(read)
    for column in ("value", "ci_low", "ci_high"):
        pd.testing.assert_series_equal(both[column], both[f"{column}_read"], check_names=False)


def test_figures_are_drawn_of_each_contrast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = {}

    def write(figure: object, stem: Path) -> Path:
        drawn[stem.name] = figure
        return stem.with_suffix(".png")

    monkeypatch.setattr(paper_figures, "write_pictures", write)
    files = paper_figures.draw({"kang_ifnb": toy()}, tmp_path)
    names = ["fig_2", "fig_7_to_10_kang_ifnb", "fig_11_to_14_kang_ifnb", "pruning_kang_ifnb"]
    assert [file.stem for file in files] == names and len(drawn) == len(names)
    title = drawn["fig_7_to_10_kang_ifnb"].get_suptitle()  # type: ignore[attr-defined]
    assert title == "IFN-β, genes ranked on training pairs: least important removed first"


def test_lines_that_are_run() -> None:
    lupus = paper_figures.command("csle_pbmc", Path("to"), "held_out")
    assert "study.seed=3" in lupus and lupus[-1] == "paths.output_dir=to/csle_pbmc"
    pairs = paper_figures.command("kang_ifnb", Path("to"), "per_pair")
    assert {"checkpoint.path=to/kang_ifnb", "pruning.rank_source=per_pair"} <= set(pairs)
    assert "study.seed=0" in pairs and pairs[-1] == "paths.output_dir=to/kang_ifnb_per_pair"


def test_other_words_are_refused() -> None:
    with pytest.raises(SystemExit, match="paper_figures"):
        paper_figures.main(["rank_source=train"])
