"""What every method gives back, and how it leaves the model it borrowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from gradgene.attribution import (
    Attribution,
    AttributionMethod,
    DeepLift,
    DirectionScores,
    Target,
    build_method,
    propagation,
)
from gradgene.errors import AttributionError, TokenError
from gradgene.modes import HOOKS
from gradgene.pairs import EmptyBaseline
from tests.attribution.toys import KINDS, MARGIN, blended_pairs, one_way, random_model, target

METHODS = ("deeplift", "grad_x_delta")


def scores(*rows: list[float], presence: bool = True) -> DirectionScores:
    """Embedding parts are half of the scores, f 2 and 1 for every pair."""
    scores_pt = torch.tensor(rows)
    return DirectionScores(
        scores_pt=scores_pt,
        embedding_pt=scores_pt / 2,
        presence_pt=scores_pt / 2 if presence else None,
        f_input_p=torch.full((len(rows),), 2.0),
        f_baseline_p=torch.full((len(rows),), 1.0),
    )


def attribution(forward: DirectionScores, backward: DirectionScores, **changed: Any) -> Attribution:
    facts: dict[str, Any] = {
        "gene_ids_pt": torch.tensor([[-1, 0, 1]]),
        "n_header": 1,
        "method": "toy",
        "baseline": "cell_state",
    }
    return Attribution(forward=forward, backward=backward, **(facts | changed))


class TestScores:
    def test_deltas_by_hand(self) -> None:
        """f rises by 1; the scores explain 0.25, 1, and 0 of it."""
        found = scores([0.5, -0.25], [1.0, 0.0], [200.0, -200.0])
        assert found.delta_p.tolist() == [0.75, 0.0, 1.0]
        # The last pair is judged by 1% of Σ|score| = 4 and not by the rise of 1.
        assert found.relative_delta_p.tolist() == [0.75, 0.0, 0.25]

    def test_nothing_to_explain_has_no_delta(self) -> None:
        still = replace(scores([0.0, 0.0]), f_input_p=torch.ones(1))
        assert still.relative_delta_p.tolist() == [0.0]

    def test_negated(self) -> None:
        found = scores([0.5, -0.25]).negated()
        assert found.scores_pt.tolist() == [[-0.5, 0.25]]
        assert found.embedding_pt.tolist() == [[-0.25, 0.125]]
        assert found.presence_pt is not None
        assert found.presence_pt.tolist() == [[-0.25, 0.125]]
        assert (found.f_input_p.tolist(), found.f_baseline_p.tolist()) == ([1.0], [2.0])
        assert found.delta_p.tolist() == [-0.75]
        assert scores([0.5], presence=False).negated().presence_pt is None

    def test_shapes_must_agree(self) -> None:
        with pytest.raises(AttributionError, match="shape"):
            replace(scores([0.5, 1.0]), embedding_pt=torch.zeros(1, 3))
        with pytest.raises(AttributionError, match="shape"):
            replace(scores([0.5, 1.0]), f_input_p=torch.zeros(1, 1))
        good = scores([0.5, 1.0, 2.0])
        with pytest.raises(AttributionError, match=r"backward.*\(1, 3\).*\(1, 2\)"):
            attribution(good, scores([0.5, 1.0]))

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    @pytest.mark.parametrize("direction", ["forward", "backward"])
    def test_scores_must_be_finite(self, bad: float, direction: str) -> None:
        good, ids = scores([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), torch.tensor([[-1, 0, 1]] * 2)
        spoilt = scores([1.0, 2.0, 3.0], [1.0, bad, 3.0])
        both = {"forward": good, "backward": good} | {direction: spoilt}
        with pytest.raises(AttributionError, match=rf"toy.*1 of 2 pairs.*{direction}.*pair 1"):
            attribution(both["forward"], both["backward"], gene_ids_pt=ids)

    @pytest.mark.parametrize("name", METHODS)
    def test_a_model_with_nan_weights_is_refused(self, name: str) -> None:
        model = random_model()
        dict(model.named_parameters())["head_projector.weight"].data[4, 0] = torch.nan
        with pytest.raises(AttributionError, match=f"attribution.method={name}"):
            build_method(name).attribute(model, blended_pairs(3), MARGIN)


class TestDirections:
    @pytest.mark.parametrize("name", METHODS)
    @pytest.mark.parametrize("kind", KINDS)
    def test_backward_is_the_swapped_pair_for_the_same_label(self, name: str, kind: str) -> None:
        model, blended, method = random_model(), blended_pairs(5), build_method(name)
        result = method.attribute(model, blended, target(kind))
        for found, pairs in ((result.forward, blended), (result.backward, blended.swap())):
            expected = one_way(method, model, pairs, target(kind))
            torch.testing.assert_close(found.scores_pt, expected.scores_pt, rtol=0, atol=1e-11)
            torch.testing.assert_close(found.f_input_p, expected.f_input_p)
            torch.testing.assert_close(found.f_baseline_p, expected.f_baseline_p)

    @pytest.mark.parametrize("name", METHODS)
    def test_the_empty_baseline_reads_each_cell_for_its_own_label(self, name: str) -> None:
        model, blended, method = random_model(), blended_pairs(5), build_method(name)
        result = method.attribute(model, blended, MARGIN, EmptyBaseline())
        own = Target("disease", "control", against="case")
        expected = one_way(method, model, blended.swap().without_baseline_genes(), own)
        torch.testing.assert_close(result.backward.scores_pt, expected.scores_pt)
        forward = one_way(method, model, blended.without_baseline_genes())
        torch.testing.assert_close(result.forward.scores_pt, forward.scores_pt)
        assert result.baseline == "empty"
        absent = ~blended.input.attention_mask_nt
        assert (result.forward.scores_pt[absent] == 0).all()

    def test_the_empty_baseline_needs_the_other_label(self) -> None:
        asked = Target("disease", "case", kind="logit")
        with pytest.raises(AttributionError, match=r"target\.against"):
            DeepLift().attribute(random_model(), blended_pairs(2), asked, EmptyBaseline())

    def test_facts_travel_along(self) -> None:
        blended = blended_pairs(3)
        result = DeepLift().attribute(random_model(), blended, MARGIN)
        assert (result.method, result.baseline, result.n_header) == ("deeplift", "cell_state", 3)
        assert torch.equal(result.gene_ids_pt, blended.gene_ids_pt)

    @pytest.mark.parametrize("name", METHODS)
    def test_the_label_of_the_target_category_is_hidden(self, name: str) -> None:
        """Cells that differ only in the disease they have are the same cell to the model."""
        blended = blended_pairs(4)
        relabelled = replace(blended.cells, input_ids_nt=blended.cells.input_ids_nt.clone())
        relabelled.input_ids_nt[:, 2] = 6
        model, method = random_model(), build_method(name)
        one = method.attribute(model, blended, MARGIN)
        other = method.attribute(model, blended.with_cells(relabelled), MARGIN)
        assert torch.equal(one.forward.scores_pt, other.forward.scores_pt)
        assert (one.forward.scores_pt[:, 2] == 0).all()


SURROUNDINGS = [nullcontext, torch.no_grad, torch.inference_mode]


class TestBorrowing:
    @pytest.mark.parametrize("name", METHODS)
    @pytest.mark.parametrize("around", SURROUNDINGS)
    @pytest.mark.parametrize("baseline", [None, EmptyBaseline()])
    def test_works_inside_any_gradient_mode(
        self, name: str, around: type[AbstractContextManager[Any]], baseline: EmptyBaseline | None
    ) -> None:
        model, method = random_model(), build_method(name)
        expected = method.attribute(model, blended_pairs(4), MARGIN, baseline)
        with around():
            # Made inside: under inference mode the batch consists of inference tensors.
            blended = blended_pairs(4)
            assert blended.cells.input_ids_nt.is_inference() == (around is torch.inference_mode)
            found = method.attribute(model, blended, MARGIN, baseline)
        for direction in ("forward", "backward"):
            one, other = getattr(found, direction), getattr(expected, direction)
            assert torch.equal(one.scores_pt, other.scores_pt)
            assert not one.scores_pt.requires_grad
            assert not one.f_input_p.requires_grad

    @pytest.mark.parametrize("name", METHODS)
    def test_mixed_precision_around_it_changes_nothing(self, name: str) -> None:
        model, blended = random_model(0, torch.float32), blended_pairs(4)
        expected = one_way(build_method(name), model, blended)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = build_method(name).attribute(model, blended, MARGIN).forward
        assert torch.equal(found.scores_pt, expected.scores_pt)

    @pytest.mark.parametrize("name", METHODS)
    @pytest.mark.parametrize("training", [True, False])
    def test_the_model_comes_back_as_it_was(self, name: str, training: bool) -> None:
        model = random_model().train(training)
        model.head_projector.weight.requires_grad_(False)
        before = everything(model)
        build_method(name).attribute(model, blended_pairs(4), MARGIN)
        assert same(before, everything(model))

    @pytest.mark.parametrize(
        ("name", "step"),
        [
            ("deeplift", "gelu_multiplier"),
            ("deeplift", "layer_norm_multiplier"),
            ("deeplift", "AttentionStep"),
        ],
    )
    def test_also_after_an_exception_in_a_rule(
        self, name: str, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise ArithmeticError("in the middle")

        monkeypatch.setattr(propagation, step, fail)
        model, blended = random_model(), blended_pairs(4)
        before = everything(model)
        with pytest.raises(ArithmeticError, match="in the middle"):
            build_method(name).attribute(model, blended, MARGIN)
        assert same(before, everything(model))
        monkeypatch.undo()
        found = build_method(name).attribute(model, blended, MARGIN).forward
        assert found.relative_delta_p.max() <= 1e-10

    @pytest.mark.parametrize("name", METHODS)
    def test_also_after_an_exception_in_the_model(self, name: str) -> None:
        model = random_model()
        before = everything(model)
        broken = replace(blended_pairs(4), input_rows_p=torch.full((4,), 99))
        with pytest.raises(IndexError):
            build_method(name).attribute(model, broken, MARGIN)
        assert same(before, everything(model))

    def test_hooks_of_others_stay(self) -> None:
        seen: list[str] = []
        model = random_model()
        handle = model.blocks[0].register_forward_hook(lambda *_: seen.append("ran"))
        DeepLift().attribute(model, blended_pairs(2), MARGIN)
        assert len(model.blocks[0]._forward_hooks) == 1
        assert seen
        handle.remove()

    def test_the_batch_is_not_changed(self) -> None:
        blended = blended_pairs(4)
        before = blended.cells.input_ids_nt.clone(), blended.input.input_ids_nt.clone()
        for name in METHODS:
            build_method(name).attribute(random_model(), blended, MARGIN)
        assert torch.equal(blended.cells.input_ids_nt, before[0])
        assert torch.equal(blended.input.input_ids_nt, before[1])


def everything(model: nn.Module) -> dict[str, Any]:
    """Weights, gradients, flags, hooks and instance attributes named `forward`."""
    state: dict[str, Any] = {k: v.clone() for k, v in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        state[f"{name} flags"] = (parameter.requires_grad, parameter.grad is None)
    for name, module in model.named_modules():
        hooks = [len(getattr(module, kind)) for kind in HOOKS]
        state[f"{name} module"] = (module.training, "forward" in vars(module), hooks)
    return state


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    def pairs() -> Iterator[bool]:
        for key, value in one.items():
            is_tensor = isinstance(value, torch.Tensor)
            yield torch.equal(value, other[key]) if is_tensor else value == other[key]

    return one.keys() == other.keys() and all(pairs())


class TestRegistry:
    def test_builds_by_name(self) -> None:
        for name in METHODS:
            method = build_method(name)
            assert isinstance(method, AttributionMethod)
            assert method.name == name

    def test_promises(self) -> None:
        promised = {
            n: (m.complete, m.symmetric, m.sees_presence)
            for n, m in ((n, build_method(n)) for n in METHODS)
        }
        assert promised == {"deeplift": (True,) * 3, "grad_x_delta": (False,) * 3}

    def test_unknown_names_are_answered_with_the_closest(self) -> None:
        with pytest.raises(AttributionError, match=r"'deep_lift'.*one of 'deeplift'"):
            build_method("deep_lift")
        with pytest.raises(AttributionError, match="one of 'grad_x_delta'"):
            build_method("gradxdelta")


def test_a_category_outside_the_sequence_is_an_error() -> None:
    with pytest.raises(TokenError, match=r"'diseas'.*'disease'"):
        DeepLift().attribute(random_model(), blended_pairs(2), Target("diseas", "case", "control"))
