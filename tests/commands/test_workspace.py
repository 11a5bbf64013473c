"""What a run's folder knows before anything is read."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf

from gradgene.attribution import GradXDelta, RandomScores
from gradgene.commands.workspace import Workspace
from tests.config.test_leaves import composed


def test_compared_methods_differ_from_the_studys_by_their_method_alone(tmp_path: Path) -> None:
    """Also in what a method takes from the settings: a bound of memory bounds every method."""
    words = ("attribution.batch_tokens=150", "attribution.target_kind=logit")
    cfg = composed("experiment=demo", *words, "study.compare=[grad_x_delta,random]")
    OmegaConf.resolve(cfg)
    work = Workspace(cfg, tmp_path)
    first, second = (settings.method for settings in work.compared)
    assert isinstance(first, GradXDelta) and first.forward_tokens == 150
    assert isinstance(second, RandomScores)
    said = {(a.batch_tokens, a.target_kind) for a in work.attributions}
    assert said == {(150, "logit")}
