"""Sanity checks and stability of a tiny study, from the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradgene.commands.evaluate import relearning
from gradgene.commands.main import main
from tests.integration.tiny import QUICK, read, words

#: Cutting the genes is not what is tested here.
CUTS = (*QUICK, "pruning.ratios.lowest_first=[0.5]", "pruning.ratios.highest_first=[0.5]")
SANE = (
    "evaluation.sanity={_target_: gradgene.evaluation.Sanity, n_pairs: 8, n_draws: 2, "
    "threshold: 0.9, n_retrained: 1}"
)
STEADY = (
    "evaluation.stability={_target_: gradgene.evaluation.Stability, n_pairs: 12, n_draws: 3, "
    "top_k: 5}"
)


@pytest.fixture(scope="module")
def trained(cells_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model, not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", *words(cells_file, folder, *CUTS)]) == 0
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained folder."""
    return shutil.copytree(trained, tmp_path / "run")


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


def attribute(cells_file: Path, folder: Path, *more: str) -> list[str]:
    """The words of a study that is attributed and pruned in this folder."""
    said = words(cells_file, folder, *CUTS, *more)
    for command in ("attribute", "prune"):
        assert main([command, *said]) == 0
    return said


@pytest.mark.slow
def test_a_model_is_checked_and_given_back(
    cells_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("study.compare=[grad_x_delta]", "pairs.max_pairs=12", SANE, STEADY)
    said = attribute(cells_file, folder, *more)
    before = (folder / "checkpoints" / "best.ckpt").read_bytes()
    assert main(["evaluate", *said]) == 0
    assert (folder / "checkpoints" / "best.ckpt").read_bytes() == before
    sanity = read(folder, "evaluation/sanity")
    counts = sanity.groupby("check", sort=False).size().to_dict()
    assert counts == {
        "reference": 2,
        "randomisation": 2 * 4,
        "gene_shuffle": 2 * 2,
        "label_permutation": 2,
        "label_relearning": 1,
    }
    assert sanity[["step", "spearman"]].to_numpy().tolist()[0] == ["trained", 1.0]
    assert set(sanity.loc[sanity["check"] == "randomisation", "step"]) == {
        "head",
        "block 2",
        "block 1",
        "embeddings",
    }
    assert sanity["seed"].tolist()[2:] == [0] * 4 + [1] * 4 + [0, 0, 1, 1] + [0, 1] + [0]
    relearnt = sanity[sanity["check"] == "label_relearning"].iloc[0]
    assert relearnt["n_pairs"] == 8 and abs(relearnt["spearman"]) < 1
    assert not (folder / "evaluation" / ".relearnt").exists()
    monkeypatch.setattr(relearning, "fit", lambda work: pytest.fail("it is in the cache"))
    other = [word.replace("threshold: 0.9", "threshold: 0.95") for word in said]
    assert main(["evaluate", *other]) == 0
    assert read(folder, "evaluation/sanity")["spearman"].tolist() == sanity["spearman"].tolist()
    assert metrics(folder)["sanity/passed"] == 1.0
    stability = read(folder, "evaluation/stability")
    assert set(stability["kind"]) == {"pairs", "donors"}
    assert stability.loc[stability["kind"] == "pairs", "n_pairs"].max() == 6
    consensus = read(folder, "evaluation/consensus")
    assert [c for c in consensus if str(c).startswith("rank/")] == [
        "rank/deeplift/forward",
        "rank/grad_x_delta/contrast",
    ]
    agreement = read(folder, "evaluation/agreement")
    assert set(agreement.loc[agreement["first"] == agreement["second"], "spearman"]) == {1.0}


def test_a_method_that_ignores_the_model_fails_loudly(
    cells_file: Path, folder: Path, refused: Callable[..., str]
) -> None:
    said = attribute(cells_file, folder, "attribution=random", SANE)
    error = refused("evaluate", *said)
    assert "random weights" in error
    assert "found 1.00" in error
    assert metrics(folder)["sanity/passed"] == 0.0
    sanity = read(folder, "evaluation/sanity")
    assert (sanity.loc[sanity["check"] == "randomisation", "spearman"] == 1.0).all()
    # Nothing is done again, and it is as loud as before.
    assert refused("evaluate", *said) == error
    warned = [w.replace("threshold: 0.9", "threshold: 0.9, on_failure: warn") for w in said]
    assert main(["evaluate", *warned]) == 0
