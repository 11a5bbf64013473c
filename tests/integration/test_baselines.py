"""Attribution by command under every baseline, with other methods beside the main one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gradgene.attribution import METHODS
from gradgene.commands.config.groups import conf_dir, groups
from gradgene.commands.main import main
from gradgene.pairs import BASELINES
from tests.integration.tiny import QUICK, read, words

#: Beside DeepLIFT: one method of each kind.
COMPARED = ("input_x_gradient", "integrated_gradients", "remove_occlusion", "random")
DEFAULTS = {"input_x_gradient": "contrast", "remove_occlusion": "contrast", "random": "contrast"}


@pytest.fixture(scope="module")
def trained(cells_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model, not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", *words(cells_file, folder)]) == 0
    return folder


def attributed(trained: Path, cells: Path, folder: Path, *more: str) -> Path:
    """A copy of the trained model's folder with attributions."""
    shutil.copytree(trained, folder)
    assert main(["attribute", *words(cells, folder, *more)]) == 0
    return folder


@pytest.mark.parametrize("baseline", BASELINES)
def test_every_baseline_with_other_methods(
    baseline: str, trained: Path, cells_file: Path, tmp_path: Path
) -> None:
    asked = (
        f"baseline={baseline}",
        f"study.compare=[{','.join(COMPARED)}]",
        "attribution.save=pairs",
        "pairs.per_cell=2",
    )
    folder = attributed(trained, cells_file, tmp_path / "run", *asked)
    table, pairs = read(folder, "attributions/genes"), read(folder, "attributions/pairs")
    assert set(table["baseline"]) == {baseline} and set(table["method"]) == {"deeplift"}
    assert table.loc[table["rank"].isna(), "gene"].tolist() == ["@disease", "@cell_type"]
    # Complete under each of them, and said so; the sum of scores is what the pairs changed by.
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["attribution/deeplift/complete"] == 1
    assert metrics["attribution/deeplift/relative_delta_max"] < 1e-4
    total = (table["forward"]).sum()
    assert total == pytest.approx((pairs["f_input"] - pairs["f_baseline"]).mean(), abs=1e-5)
    shards = pd.concat(
        pd.read_parquet(file) for file in (folder / "attributions/pairs").glob("*.parquet")
    )
    assert set(shards["pair"]) == set(pairs["pair"]) == {*range(len(pairs))}
    assert {"@disease", "@cell_type"} <= set(shards["gene"])
    rankings = set(read(folder, "pruning/rankings")["ranking"])
    for name in COMPARED:
        compared = read(folder / "attributions" / name, "genes")
        assert set(compared["method"]) == {name} and set(compared["baseline"]) == {baseline}
        assert metrics[f"attribution/{name}/complete"] == (name == "integrated_gradients")
        swaps = BASELINES[baseline].swaps
        default = DEFAULTS.get(name, "forward") if swaps else "own_label"
        own_label = (compared["forward"] + compared["backward"]) / 2
        expected = compared[default] if swaps else own_label
        np.testing.assert_allclose(compared["score"], expected, rtol=1e-5, atol=1e-7)
        assert {f"{name}/{default}", f"{name}/{default}/abs"} <= rankings
    if baseline == "mean":
        assert len(pairs) == pairs["input"].nunique() == 3
        assert pairs["baseline"].str.match(r"mean of \d+ control cells \(.* cell\)").all()
        assert metrics["pairs/n_pairs"] == 3
    else:
        assert len(pairs) == 6 and pairs["baseline"].str.startswith("cell").all()


def test_means_of_the_pairs_of_a_file_are_of_held_out_controls(
    trained: Path, cells_file: Path, tmp_path: Path
) -> None:
    drawn = read(attributed(trained, cells_file, tmp_path / "drawn"), "attributions/pairs")
    file = tmp_path / "pairs.csv"
    drawn[["input", "baseline"]].iloc[::-1].to_csv(file, index=False)
    more = (f"pairs.file={file}", "baseline=mean")
    folder = attributed(trained, cells_file, tmp_path / "run", *more)
    pairs = read(folder, "attributions/pairs")
    assert pairs["input"].tolist() == drawn["input"].iloc[::-1].tolist()
    report = json.loads((trained / "data_report.json").read_text())
    held_out = report["split"].removeprefix("held-out donors ").split(", ")
    known = pairs["donor_baseline"].dropna()
    assert set(known) <= set(held_out)


def test_pruning_follows_means(trained: Path, cells_file: Path, tmp_path: Path) -> None:
    folder = attributed(trained, cells_file, tmp_path / "run", *QUICK, "baseline=mean")
    assert main(["prune", *words(cells_file, folder, *QUICK, "baseline=mean")]) == 0
    assert set(read(folder, "pruning/curves")["ranking"]) == {"deeplift/forward", "random"}


def test_every_method_has_a_leaf_of_its_name() -> None:
    """`study.compare` and `attribution=` find all of them."""
    assert set(groups(conf_dir())["attribution"]) == set(METHODS)


@pytest.mark.parametrize("command", ["study", "attribute"])
def test_a_method_that_cannot_use_the_baseline_is_refused_first(
    command: str, cells_file: Path, tmp_path: Path, trained: Path, refused
) -> None:
    folder = tmp_path / "run"
    if command == "attribute":
        shutil.copytree(trained, folder)
    more = ("study.compare=[captum_deeplift]", "baseline=zero")
    error = refused(command, *words(cells_file, folder, *more))
    assert "captum_deeplift embeds the baseline's tokens itself" in error
    assert not (folder / "attributions").exists()
