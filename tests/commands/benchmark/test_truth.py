"""What `gradgene benchmark truth` runs and how it sums up; nothing is trained here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gradgene.attribution import METHODS
from gradgene.cells import PLANTED_LEVELS
from gradgene.commands.benchmark.truth import Settings
from gradgene.commands.benchmark.truth_figures import truth_figures
from gradgene.commands.benchmark.truth_seed import ARMS, methods_of, seconds_of
from gradgene.commands.benchmark.truth_tables import Truth, share_interval, summary_of
from gradgene.errors import ConfigError
from gradgene.store import append_json_line


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"level": "hardest"}, "'default'"),
        ({"methods": ("deeplfit",)}, "'deeplift'"),
        ({"arms": ("cell",)}, "'cell_state'"),
        ({"seeds": 0}, "above 0"),
        ({"jobs": 0}, "above 0"),
        ({"first_seed": -1}, "0 or more"),
    ],
)
def test_mistakes_are_named(given: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Settings(**given)  # type: ignore[arg-type]


def test_each_seed_has_cells_a_model_and_a_folder_of_its_own(tmp_path: Path) -> None:
    jobs = Settings(output_dir=str(tmp_path), seed=5).seed_jobs()
    assert [(job.cells_seed, job.model_seed) for job in jobs] == [(1000, 5), (1001, 6), (1002, 7)]
    assert len({job.folder for job in jobs}) == 3
    assert {job.pairs for job in jobs} == {PLANTED_LEVELS["default"].n_pairs}
    assert set(jobs[0].methods) == set(METHODS) and jobs[0].methods[0] == "deeplift"
    assert jobs[0].arms == tuple(ARMS)


def test_an_arm_runs_the_methods_that_can_be_told_of_its_baseline() -> None:
    methods = ("deeplift", "captum_integrated_gradients", "random")
    assert methods_of("cell_state", methods) == methods_of("empty", methods) == methods
    assert methods_of("zero", methods) == ("deeplift", "random")
    assert methods_of("unmatched", methods) == ("deeplift",)


def test_a_part_that_was_done_again_counts_once(tmp_path: Path) -> None:
    for part, seconds in (("training", 5.0), ("controls", 1.0), ("training", 7.0)):
        append_json_line({"part": part, "seconds": seconds}, tmp_path / "seconds.jsonl")
    assert dict(seconds_of(tmp_path).to_numpy()) == {"training": 7.0, "controls": 1.0}


def judged(seed: int, arm: str, ranking: str, auprc: float, draw: int = 0) -> dict[str, object]:
    method, _, importance = ranking.partition("/")
    model_free = arm == "none"
    return {
        "cells_seed": seed,
        "model_seed": seed,
        "arm": arm,
        "method": method,
        "importance": importance,
        "ranking": ranking,
        "default": model_free or importance == "forward",
        "draw": draw,
        "n_pairs": 0 if model_free else 10,
        "auprc": auprc,
        "auprc_all": auprc - 0.1,
        "chance": 0.25,
        "chance_auprc": 0.3,
        "recall": auprc,
        "xor_recall": np.nan if seed == 0 else auprc,
        "xor_rank": 3.0,
        "decoys_top10": (2.0, 1.0, 4.0)[seed],
        "batch_top10": 1.0,
        "ambient_top10": 0.0,
        "copies_top10": 0.0,
        "batch_flagged": np.nan if model_free else 2.0,
        "batch_unflagged": np.nan if model_free else float(seed == 2),
    }


@pytest.fixture
def truth() -> Truth:
    rows = [judged(s, "none", "random", 0.2 + 0.1 * d, d) for s in range(3) for d in range(3)]
    rows += [
        judged(seed, arm, ranking, auprc)
        for arm, ranking, values in (
            ("none", "deg", (0.6, 0.7, 0.5)),
            ("none", "hvg", (0.3, 0.3, 0.3)),
            ("none", "expression", (0.1, 0.1, 0.1)),
            ("cell_state", "deeplift/forward", (0.9, 0.8, 1.0)),
            ("cell_state", "deeplift/forward/abs", (0.5, 0.5, 0.5)),
            ("unmatched", "deeplift/forward", (0.7, 0.7, 0.7)),
        )
        for seed, auprc in enumerate(values)
    ]
    seeds = {"cells_seed": range(3), "model_seed": range(3)}
    accuracies = {"accuracy": [0.8, 0.85, 0.9], "bayes_accuracy": 0.95}
    models = pd.DataFrame({**seeds, **accuracies, "learnt": [0, 2, 3], "n_xor": 3})
    seconds = pd.DataFrame({"cells_seed": [0, 0, 1], "part": ["training", "x", "training"]})
    rankings = pd.DataFrame(rows)
    empty = pd.DataFrame()
    timed = seconds.assign(seconds=[60.0, 60.0, 240.0])
    return Truth(rankings, summary_of(rankings), models, empty, empty, timed)


def test_draws_are_averaged_and_seeds_summed_up(truth: Truth) -> None:
    rows = truth.summary.to_dict("records")
    deg, random = (next(r for r in rows if r["ranking"] == name) for name in ("deg", "random"))
    assert (deg["auprc"], deg["auprc_min"], deg["auprc_max"]) == (0.6, 0.5, 0.7)
    # On log odds ln(p / (1 - p)): 0.4055, 0.8473 and 0 (sd 0.4238), t of two degrees 4.3027.
    half, middle = 4.302653 * 0.423779 / 3**0.5, 0.417588
    ends = [1 / (1 + np.exp(-(middle + sign * half))) for sign in (-1, 1)]
    assert [deg["auprc_low"], deg["auprc_high"]] == pytest.approx(ends, rel=1e-4)
    default = next(
        r for r in rows if (r["arm"], r["ranking"]) == ("cell_state", "deeplift/forward")
    )
    assert np.isnan(default["auprc_low"]) and default["auprc_max"] == 1.0, "a seed is at the bound"
    assert [default[f"decoys_top10_{end}"] for end in ("min", "max")] == [1.0, 4.0]
    assert {f"{f}_{e}" for f in ("xor_rank", "batch_top10") for e in ("min", "max")} <= set(rows[0])
    assert random["auprc"] == pytest.approx(0.3) and random["n_seeds"] == 3
    assert list(truth.summary["auprc"]) == sorted(truth.summary["auprc"], reverse=True)
    assert set(truth.overview()["ranking"]) == {
        *("deg", "hvg", "expression", "random", "deeplift/forward"),
    }
    assert list(dict.fromkeys(truth.by_arm()["arm"])) == ["cell_state", "none"]


@pytest.mark.parametrize("values", [(0.5, 0.5, 0.5), (0.2, 0.9, 1.0), (0.0, 0.1, 0.2), (0.2, 0.4)])
def test_shares_that_tell_no_interval(values: tuple[float, ...]) -> None:
    assert np.isnan(share_interval(np.array(values))).all()


def test_the_interval_of_a_share_is_a_share() -> None:
    low, high = share_interval(np.array([0.90, 0.97, 0.999, np.nan]))
    assert 0 < low < 0.9 and 0.999 < high < 1


def test_the_goals_of_the_default_level(truth: Truth) -> None:
    figures = {
        (f.part, f.name): f for f in truth_figures(truth, PLANTED_LEVELS["default"])
    }  # fmt: skip
    part = "deeplift/forward, cell_state"
    gain = figures[part, "AUPRC less deg's"]
    assert gain.value == pytest.approx(0.3) and gain.met  # of 0.3, 0.1 and 0.5
    assert figures["model", "XOR pairs learnt"].value == 2
    recall = figures[part, "recall of learnt XOR genes"]
    assert recall.value == pytest.approx(0.9) and recall.met and "deg 0.60" in recall.note
    decoys, batch = (figures[part, f"{what} in the top 10"] for what in ("decoys", "batch genes"))
    assert (decoys.value, decoys.met, batch.value, batch.met) == (2, False, 1, False)
    flags = figures[
        "deeplift/forward, not matched on batch", "batch genes in the top 10 without flag"
    ]
    assert flags.value == 0 and flags.met and "0 to 1" in flags.note
    assert figures["controls", "AUPRC of deg, all"].met
    assert figures["time", "a seed"].value == pytest.approx(3.0)


def test_other_levels_have_no_goals(truth: Truth) -> None:
    level = next(level for name, level in PLANTED_LEVELS.items() if name != "default")
    assert all(figure.met is None for figure in truth_figures(truth, level))
