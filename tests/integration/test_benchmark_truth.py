"""`gradgene benchmark truth level=smoke` as it is shipped: what it shows, and that it goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pandas as pd
import pytest

from gradgene.commands.main import main

pytestmark = pytest.mark.slow

#: Of processor, so that a busy machine changes nothing: what the level promises of one idle core.
MOST_SECONDS = 60


def test_the_smoke_level_shows_what_deg_cannot_and_goes_on(tmp_path: Path) -> None:
    """Its model does not learn the XOR pair, so both name all other planted genes first. Beyond
    these the model's ranking has some of the pair, DEG nothing (all planted genes: `auprc_all`).
    """
    line = ["benchmark", "truth", "level=smoke", f"output_dir={tmp_path}"]
    began = time.process_time()
    assert main(line) == 0
    assert time.process_time() - began < MOST_SECONDS
    truth = pd.read_csv(tmp_path / "truth.csv", keep_default_na=False)
    methods = {"deeplift", "grad_x_delta", "integrated_gradients", "random"}
    ran = {arm: set(of["method"]) for arm, of in truth.groupby("arm")}
    assert ran == {
        "none": {"deg", "expression", "hvg", "random"},
        "cell_state": methods,
        "empty": methods,
    }
    of_default = truth[truth["default"]].groupby(["arm", "ranking"])
    auprc, auprc_all = (of_default[name].mean().to_dict() for name in ("auprc", "auprc_all"))
    main_one = ("cell_state", "deeplift/forward")
    assert auprc[main_one] > 0.95 > 0.5 > auprc[("none", "random")]
    assert auprc_all[main_one] > auprc_all[("none", "deg")] + 0.1
    assert auprc[("empty", "deeplift/own_label")] > 0.95
    first = truth[truth["ranking"] == "deeplift/forward"].set_index("arm")["decoys_top10"]
    assert int(first["cell_state"]) <= 1
    for name in ("truth", "truth_by_arm"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    found = json.loads((tmp_path / "benchmark.json").read_text())["figures"]
    assert "AUPRC less deg's" in {figure["figure"] for figure in found}

    kept = tmp_path / "smoke-1000-0"
    (kept / "rankings" / "empty" / "deeplift.parquet").unlink()
    arms = "arms=[cell_state,empty,unmatched]"
    assert main([*line, arms]) == 0
    again = pd.read_csv(tmp_path / "truth.csv", keep_default_na=False)
    assert set(again["arm"]) == {*truth["arm"], "unmatched"}
    before = again[again["arm"] != "unmatched"].reset_index(drop=True)
    pd.testing.assert_frame_equal(before, truth, check_exact=True)
    parts = [json.loads(text)["part"] for text in (kept / "seconds.jsonl").read_text().splitlines()]
    done = pd.Series(parts).value_counts()
    assert done["empty: deeplift"] == 2 and done["unmatched: deeplift"] == 1
    assert (done.drop("empty: deeplift") == 1).all()
