"""Runs of a sweep in one figure: what they are called, what is averaged, where it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from gradgene.commands.main import main
from gradgene.commands.report.curves import joined_curves, run_labels, run_settings
from gradgene.reports import RunFiles

ORDERS = ("lowest_first", "highest_first")


def curves(values: dict[str, list[float]], **more: Any) -> pd.DataFrame:
    """Three ratios in both orders; each value is a draw."""
    rows = [
        {"ranking": name, "draw": draw, "order": order, "ratio": ratio, "arm": "both"}
        | {"metric": "balanced_accuracy", "value": value - ratio / 10}
        | {"ci_low": value - 0.3, "ci_high": value + 0.3, "rank_source": "held_out"}
        for name, draws in values.items()
        for draw, value in enumerate(draws)
        for order in ORDERS
        for ratio in (0.0, 0.5, 0.9)
    ]
    return pd.DataFrame(rows).assign(**more)


def run_of(
    folder: Path,
    value: float,
    *,
    method: str = "deeplift",
    baseline: str = "cell_state",
    seed: int = 0,
    random: tuple[float, ...] = (0.6, 0.7),
    **config: Any,
) -> RunFiles:
    """A pruned run of this method and baseline whose main ranking begins at `value`."""
    (folder / "attributions").mkdir(parents=True)
    (folder / "pruning").mkdir()
    study = {"name": folder.name, "seed": seed, "input": "case"}
    settings = {"study": study, "ranking": {"importance": "forward"}, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    (folder / "metrics.json").write_text('{"pruning/chance": 0.5}')
    genes = pd.DataFrame({"gene": ["A"], "score": 1.0, "rank": 1, "direction": "up"})
    genes = genes.assign(method=method, baseline=baseline)
    genes.to_parquet(folder / "attributions" / "genes.parquet")
    table = curves(
        {f"{method}/forward": [value], "random": list(random), "random_matched": [0.8]}
        | {f"{method}/backward": [0.1]}
    )
    table.to_parquet(folder / "pruning" / "curves.parquet")
    return RunFiles.read(folder)


def at(joined: pd.DataFrame, ranking: str, ratio: float = 0.5) -> pd.Series:
    found = joined[(joined["ranking"] == ranking) & (joined["ratio"] == ratio)]
    return found[found["order"] == "lowest_first"].iloc[0]


def test_labels_are_what_differs(tmp_path: Path) -> None:
    steps: dict[str, Any] = {"attribution": {"method": {"_target_": "x", "n_steps": 20}}}
    more: dict[str, Any] = {"attribution": {"method": {"_target_": "x", "n_steps": 50}}}
    a = run_of(tmp_path / "a", 0.9)
    b = run_of(tmp_path / "b", 0.9, method="gim", seed=1)
    c = run_of(tmp_path / "c", 0.9, baseline="zero")
    assert run_labels([a]) == ["deeplift/forward"]
    assert run_labels([a, b]) == ["deeplift", "gim"]
    assert run_labels([a, c]) == ["cell_state", "zero"]
    assert run_labels([a, b, c]) == ["deeplift, cell_state", "gim, cell_state", "deeplift, zero"]
    d = run_of(tmp_path / "d", 0.9, **steps)
    e = run_of(tmp_path / "e", 0.9, **more)
    assert run_labels([d, e]) == [
        "attribution.method.n_steps=20",
        "attribution.method.n_steps=50",
    ]
    # Settings that follow from the method are not said beside it.
    f = run_of(tmp_path / "f", 0.9, method="gim", **more)
    assert run_labels([d, f]) == ["deeplift", "gim"]
    # A method of chance is not the control of that name.
    g = run_of(tmp_path / "g", 0.5, method="random")
    assert run_labels([a, g]) == ["deeplift", "random/forward"]
    # Beside another ranking an importance is said with its method.
    h = run_of(tmp_path / "h", 0.5, ranking={"kind": "deg"})
    assert run_labels([a, h]) == ["deeplift/forward", "deg"]


def test_what_a_sweep_is_sought_for_tells_no_runs_apart(tmp_path: Path) -> None:
    swept: dict[str, Any] = {
        "sweep": {"group": "contrasts", "objective": "pruning/area/lowest_first/main"}
    }
    runs = [run_of(tmp_path / "a", 0.9), run_of(tmp_path / "b", 0.8, seed=1, **swept)]
    assert len(set(run_labels(runs))) == 1


def test_repeats_are_averaged_with_an_interval_over_runs(tmp_path: Path) -> None:
    starts = (0.8, 0.9, 0.85)
    runs = [run_of(tmp_path / f"s{i}", v, seed=i) for i, v in enumerate(starts)]
    joined = joined_curves(runs)
    assert joined is not None
    assert set(joined["ranking"]) == {"deeplift/forward", "random", "random_matched"}
    point = at(joined, "deeplift/forward")
    values = np.array(starts) - 0.05
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert point["value"] == pytest.approx(values.mean()) and point["n_runs"] == 3
    assert (point["ci_low"], point["ci_high"]) == pytest.approx((low, high))
    # Draws are averaged within their run, so that runs are what the interval is over.
    assert at(joined, "random")["value"] == pytest.approx(0.65 - 0.05)
    assert at(joined, "random")["ci_low"] == pytest.approx(0.6)


def test_controls_are_shown_once(tmp_path: Path) -> None:
    runs = [
        run_of(tmp_path / "a", 0.9, random=(0.6,)),
        run_of(tmp_path / "b", 0.8, method="gim", random=(0.7,)),
    ]
    joined = joined_curves(runs)
    assert joined is not None
    assert list(dict.fromkeys(joined["ranking"])) == ["deeplift", "gim", "random"]
    assert not joined.duplicated(["ranking", "order", "ratio"]).any()
    assert at(joined, "random")["value"] == pytest.approx(0.65 - 0.05)
    # One run has the interval of its donors; two have none.
    assert at(joined, "gim")["ci_low"] == pytest.approx(0.5)
    assert np.isnan(at(joined, "random")["ci_low"])


def test_settings_are_what_tells_runs_apart(tmp_path: Path) -> None:
    donors: dict[str, Any] = {"data": {"holdout_donors": ["d1", "d2"]}}
    a = run_of(tmp_path / "a", 0.9)
    b = run_of(tmp_path / "b", 0.9, method="gim", seed=3, **donors)
    found = run_settings([a, b])
    assert list(found) == ["method", "study.seed", "data.holdout_donors"]
    assert found["method"].tolist() == ["deeplift", "gim"]
    assert found["study.seed"].tolist() == [0, 3]
    assert found["data.holdout_donors"].tolist() == [None, "['d1', 'd2']"]
    assert run_settings([a, a]).shape == (2, 0)


def test_leaks_stay_marked(tmp_path: Path) -> None:
    run = run_of(tmp_path / "a", 0.9)
    assert run.curves is not None
    null = run.curves[run.curves["ranking"] == "deeplift/forward"]
    null = null.assign(ranking="deeplift/forward (random weights)")
    run = replace(run, curves=pd.concat([run.curves, null]).assign(rank_source="per_pair"))
    joined = joined_curves([run, run_of(tmp_path / "b", 0.8, method="gim")])
    assert joined is not None
    assert "deeplift (random weights)" in set(joined["ranking"])
    source = joined.drop_duplicates("ranking").set_index("ranking")["rank_source"]
    assert source["deeplift"] == "per_pair" and source["gim"] == "held_out"


def test_runs_without_curves(tmp_path: Path) -> None:
    run = run_of(tmp_path / "a", 0.9)
    (tmp_path / "a" / "pruning" / "curves.parquet").unlink()
    assert joined_curves([RunFiles.read(run.path)]) is None


def test_a_sweep_is_drawn_into_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweep"
    folders = [str(run_of(sweep / f"attribution={m}", 0.9, method=m).path) for m in ("gim", "ig")]
    assert main(["report", *folders]) == 0
    assert "agreement of the runs" in capsys.readouterr().out
    assert not list(sweep.glob("*.png"))  # not known to be a sweep, and nobody asked
    (sweep / "multirun.yaml").write_text("")
    # A glob names Hydra's file and the figure of before as well.
    for _ in range(2):
        assert main(["report", *map(str, sorted(sweep.iterdir()))]) == 0
        assert str(sweep / "pruning.png") in capsys.readouterr().out
    assert "<svg" in (sweep / "pruning.svg").read_text()
    assert "attribution%3Dgim" not in (sweep / "sweep.html").read_text()  # no report to lead to
    assert (sweep / "runs.csv").is_file()
    out = tmp_path / "tables"
    assert main(["report", *folders, f"out={out}"]) == 0
    assert {f.name for f in out.iterdir()} == {
        "agreement.csv",
        "pruning.csv",
        "pruning.png",
        "pruning.svg",
        "rankings.csv",
        "sweep.html",
        "runs.csv",
    }
    assert set(pd.read_csv(out / "pruning.csv")["ranking"]) == {"gim", "ig", "random"}
    agreement = pd.read_csv(out / "agreement.csv")
    pairs = agreement[["first", "second"]].to_numpy().tolist()
    assert pairs == [["attribution=gim", "attribution=ig"]]


def test_the_figure_goes_where_it_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [str(run_of(tmp_path / m, 0.9, method=m).path) for m in ("gim", "ig")]
    figure = tmp_path / "own.svg"
    assert main(["report", *folders, f"figure={figure}"]) == 0
    assert "agreement of the runs" in capsys.readouterr().out
    assert figure.is_file() and figure.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert main(["report", *folders, "figure=own.jpg"]) == 2
    assert "a .png or .svg" in capsys.readouterr().err
    assert main(["report", folders[0], f"figure={figure}"]) == 2
    assert "several runs" in capsys.readouterr().err
    for folder in folders:
        (Path(folder) / "pruning" / "curves.parquet").unlink()
    assert main(["report", *folders, f"figure={figure}"]) == 2
    assert "pruning curve" in capsys.readouterr().err
