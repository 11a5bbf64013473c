"""What every method gives back, and how it leaves the model it borrowed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gradgene.attribution import (
    METHODS,
    Attribution,
    AttributionMethod,
    DeepLift,
    DirectionScores,
    NotFiniteError,
    Target,
    build_method,
    propagation,
)
from gradgene.attribution.method import EmbeddingMethod
from gradgene.errors import AttributionError, TokenError
from gradgene.pairs import EmptyBaseline
from tests.attribution.toys import (
    KINDS,
    MARGIN,
    blended_pairs,
    everything,
    one_way,
    random_model,
    same,
    target,
)

#: complete, symmetric, needs_baseline, sees_presence.
PROMISES = {
    "deeplift": (True, True, True, True),
    "integrated_gradients": (True, True, True, True),
    "gradient_shap": (False, True, True, True),
    "grad_x_delta": (False, False, True, False),
    "input_x_gradient": (False, False, False, False),
    "gim": (False, False, True, False),
    "swap_occlusion": (False, False, True, True),
    "remove_occlusion": (False, False, False, True),
    "random": (False, False, False, False),
    "captum_deeplift": (False, False, True, False),
    "captum_integrated_gradients": (False, False, True, False),
}
#: One that replaces steps of the model, one that differentiates it and one that only reads it.
KINDS_OF_METHOD = ("deeplift", "grad_x_delta", "swap_occlusion")


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

    def test_scores_are_the_sum_of_their_parts(self) -> None:
        x_pt, f_p = torch.tensor([[0.5, -0.25]]), torch.ones(1)
        both = DirectionScores.of_parts(x_pt, 2 * x_pt, f_p, -f_p)
        assert both.scores_pt.tolist() == [[1.5, -0.75]]
        assert both.delta_p.tolist() == [1.25]
        alone = DirectionScores.of_parts(x_pt, None, f_p, -f_p)
        assert torch.equal(alone.scores_pt, x_pt)
        assert alone.presence_pt is None

    def test_half_precision_is_widened_and_no_other(self) -> None:
        half = scores([0.5, -0.25]).mapped(Tensor.bfloat16)
        for tensor in vars(half.widened()).values():
            assert tensor.dtype == torch.float32
        double = scores([0.5], presence=False).mapped(Tensor.double)
        assert double.widened() is double

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
        with pytest.raises(AttributionError, match=rf"toy.*{direction}.*1 of 2 pairs.*pair 1"):
            attribution(both["forward"], both["backward"], gene_ids_pt=ids)

    @pytest.mark.parametrize(
        ("spoilt", "said"),
        [
            (("embedding_pt",), "forward embedding scores"),
            (("presence_pt",), "forward presence scores"),
            (("embedding_pt", "presence_pt"), "forward embedding scores and presence scores"),
            (("f_baseline_p",), "forward values of f"),
        ],
    )
    def test_the_parts_that_are_not_finite_are_named(
        self, spoilt: tuple[str, ...], said: str
    ) -> None:
        good, nan = scores([1.0, 2.0, 3.0]), torch.nan
        changed: dict[str, Any] = {part: getattr(good, part).clone() for part in spoilt}
        for tensor in changed.values():
            tensor[..., -1] = nan
        bad = replace(good, **changed)
        if bad.presence_pt is not None:
            bad = replace(bad, scores_pt=bad.embedding_pt + bad.presence_pt)
        assert bad.is_finite_p.tolist() == [False]
        with pytest.raises(
            NotFiniteError, match=rf"toy: {said} are NaN or infinite in 1 of 1 pairs"
        ):
            attribution(bad, good)

    def test_scores_of_finite_parts_must_be_finite_too(self) -> None:
        bad = replace(scores([1.0, 2.0, 3.0]), scores_pt=torch.full((1, 3), torch.inf))
        with pytest.raises(NotFiniteError, match="forward scores are NaN or infinite"):
            attribution(bad, scores([1.0, 2.0, 3.0]))

    @pytest.mark.parametrize("name", METHODS)
    def test_a_model_with_nan_weights_is_refused(self, name: str) -> None:
        model = random_model()
        dict(model.named_parameters())["head_projector.weight"].data[4, 0] = torch.nan
        with pytest.raises(AttributionError, match=f"attribution.method={name}"):
            build_method(name).attribute(model, blended_pairs(3), MARGIN)


class TestDirections:
    @pytest.mark.parametrize("name", KINDS_OF_METHOD)
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
        # To the gradient itself [MASK] is a token like any other.
        assert not method.needs_baseline or (one.forward.scores_pt[:, 2] == 0).all()


class TestBorrowing:
    """Beside what the matrix asks of every method."""

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

    @pytest.mark.parametrize("name", KINDS_OF_METHOD)
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


class TestRegistry:
    def test_builds_by_name(self) -> None:
        for name in METHODS:
            method = build_method(name)
            assert isinstance(method, AttributionMethod)
            assert method.name == name

    @pytest.mark.parametrize("name", METHODS)
    def test_promises(self, name: str) -> None:
        method = METHODS[name]
        promised = (method.complete, method.symmetric, method.needs_baseline, method.sees_presence)
        assert promised == PROMISES[name]

    def test_unknown_names_are_answered_with_the_closest(self) -> None:
        with pytest.raises(AttributionError, match=r"'deep_lift'.*one of 'deeplift'"):
            build_method("deep_lift")
        with pytest.raises(AttributionError, match="one of 'grad_x_delta'"):
            build_method("gradxdelta")


class TestLayers:
    @pytest.mark.parametrize(
        "name", [n for n, m in METHODS.items() if issubclass(m, EmbeddingMethod)]
    )
    def test_another_layer_is_refused(self, name: str) -> None:
        with pytest.raises(AttributionError, match=r"method\.layer.*'values'.*one of 'value'"):
            build_method(name, layer="values")

    @pytest.mark.parametrize("name", METHODS)
    def test_what_is_complete_is_the_whole_embedding(self, name: str) -> None:
        method = METHODS[name]
        assert build_method(name).is_complete == method.complete
        if issubclass(method, EmbeddingMethod):
            for layer in ("value", "identity"):
                assert not build_method(name, layer=layer).is_complete
        else:
            with pytest.raises(TypeError, match="layer"):
                build_method(name, layer="value")


def test_a_category_outside_the_sequence_is_an_error() -> None:
    with pytest.raises(TokenError, match=r"'diseas'.*'disease'"):
        DeepLift().attribute(random_model(), blended_pairs(2), Target("diseas", "case", "control"))
