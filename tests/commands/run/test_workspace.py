"""What the stages of a study share: the methods that are compared."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from gradgene.attribution import GradXDelta
from gradgene.attribution.gradients import CellGradientMethod
from gradgene.commands.attribute.running import module_of
from gradgene.commands.config.groups import conf_dir
from gradgene.commands.evaluate.faithfulness import _scorers
from gradgene.commands.run.workspace import Workspace
from gradgene.evaluation import Faithfulness
from tests.integration.tiny import words
from tests.planted import make_cells, make_model, make_tokenizer


def workspace(folder: Path, *more: str) -> Workspace:
    """A study without cells whose "trained" model is random."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=words(folder / "no.h5ad", folder, *more))
    work = Workspace(cfg, folder)
    tokenizer = make_tokenizer(make_cells(8, 12))
    model = make_model(tokenizer.vocabulary)
    loaded: Any = SimpleNamespace(model=model, tokenizer=tokenizer, vocabulary=tokenizer.vocabulary)
    work.loaded = loaded
    return work


PER_CELL = ("gim", "grad_x_delta", "input_x_gradient")


@pytest.mark.parametrize("main", ["deeplift", "gim"])
def test_compared_methods_hold_as_many_cells_as_the_study_says(main: str, tmp_path: Path) -> None:
    more = (f"attribution={main}", f"study.compare=[{','.join(PER_CELL)}]")
    work = workspace(tmp_path, *more, "attribution.batch_tokens=150")
    found = {a.method.name: module_of(work, a).explanation for a in work.attributions}
    methods = [found[name].method for name in PER_CELL]  # type: ignore[union-attr]
    assert [m.forward_tokens for m in methods if isinstance(m, CellGradientMethod)] == [150] * 3


def test_what_the_main_methods_own_settings_say_holds(tmp_path: Path) -> None:
    more = ("attribution.method.forward_tokens=40", "study.compare=[gim]")
    work = workspace(tmp_path, "attribution=grad_x_delta", *more, "attribution.batch_tokens=150")
    methods: list[Any] = [module_of(work, a).explanation.method for a in work.attributions]  # type: ignore[union-attr]
    assert [method.forward_tokens for method in methods] == [40, 150]


def test_so_do_methods_that_only_faithfulness_looks_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Any] = []

    def attribute(method: GradXDelta, *given: Any) -> Any:
        held.append(method.forward_tokens)
        return SimpleNamespace(forward=SimpleNamespace(scores_pt=None))

    monkeypatch.setattr(GradXDelta, "attribute", attribute)
    work = workspace(tmp_path, "attribution.batch_tokens=150")
    for scorer in _scorers(work, Faithfulness(also=("grad_x_delta",))):
        if scorer.name == "grad_x_delta":
            nothing: Any = None
            scorer.explain(nothing, nothing)
    assert held == [150]
