"""One matrix: every method of the registry on the same cells, held to what it promises.

A method joins by being registered. Which tests apply to it follows from what its class declares
(`complete`, `symmetric`, `needs_baseline`, `sees_presence`, `EmbeddingMethod`); the tables below
hold what only measuring can say.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch

from gradgene.attribution import METHODS, Attribution
from gradgene.attribution.members import Layer
from gradgene.attribution.method import EmbeddingMethod
from gradgene.errors import AttributionError
from gradgene.pairs import BASELINES, BlendedBatch, blend
from tests.attribution.matrix import (
    EVERY,
    EXACTLY,
    NEARLY,
    PARTS,
    REFUSED,
    InterruptedWorkError,
    against_a_bare_row,
    attentions,
    close,
    complete_enough,
    f_of,
    interrupted,
    is_sound,
    laid_out,
    made,
    nowhere,
    pair_of,
    pairs,
    rows_of,
    scored,
    those,
    wider,
)
from tests.attribution.toys import (
    KINDS,
    MARGIN,
    at_positions,
    blended_pairs,
    everything,
    one_way,
    random_cells,
    random_model,
    same,
    shuffled_positions,
    target,
)
from tests.planted import VARIANTS

TARGETS = [*((k, "category") for k in KINDS), *((k, "all") for k in KINDS[2:])]
SOME_VARIANTS = ("pre-norm-rms-silu", "relu", "tied-sphere", "classifier-alone")


class TestZeros:
    @EVERY
    def test_padding_and_special_tokens(self, name: str) -> None:
        assert nowhere(pairs()).any()
        is_sound(name, pairs(), scored(name))
        assert (scored(name).scores_pt[pairs().gene_ids_pt >= 0] != 0).any()
        is_sound(name, pairs().swap(), one_way(made(name), random_model(1), pairs().swap()))

    @those(lambda m: m.needs_baseline)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_cell_against_itself(self, name: str, dtype: torch.dtype) -> None:
        cells, rows = random_cells(6), torch.arange(6)
        found = one_way(made(name), random_model(3, dtype), blend(cells, rows, rows))
        for part in PARTS:
            value_pt = getattr(found, part)
            assert value_pt is None or (value_pt == 0).all()
        torch.testing.assert_close(found.f_input_p, found.f_baseline_p)

    @those(lambda m: m.needs_baseline)
    def test_tokens_that_both_members_have_alike(self, name: str) -> None:
        alike_pt = pairs().input.input_ids_nt == pairs().baseline.input_ids_nt
        assert (alike_pt & (pairs().gene_ids_pt >= 0)).any()
        assert (scored(name).scores_pt[alike_pt] == 0).all()


class TestInvariance:
    @EVERY
    def test_a_batch_of_n_is_n_batches_of_one(self, name: str) -> None:
        model, cells = random_model(1), random_cells(12, 2)
        whole = one_way(made(name), model, blend(cells, torch.arange(6), torch.arange(6, 12)))
        for i in range(6):
            pair = blend(cells, torch.tensor([i]), torch.tensor([i + 6]))
            alone = one_way(made(name), model, pair)
            length = alone.scores_pt.shape[1]
            close(rows_of(whole, i, length), alone)
            assert (whole.scores_pt[i, length:] == 0).all()

    @EVERY
    def test_the_order_of_pairs_and_what_ran_before(self, name: str) -> None:
        """Nothing is drawn or kept in the order in which pairs come."""
        model, method, cells = random_model(1), made(name), random_cells(12, 2)
        order = torch.tensor([4, 1, 5, 0, 3, 2, 4])
        one_way(method, model, blended_pairs(3, 9))
        found = one_way(method, model, blend(cells, order, order + 6))
        expected = scored(name)
        changed: dict[str, Any] = {
            key: None if x is None else x[order] for key, x in vars(expected).items()
        }
        close(found, replace(expected, **changed))
        torch.testing.assert_close(found.f_input_p, expected.f_input_p[order])

    @EVERY
    def test_positions_and_more_padding(self, name: str) -> None:
        order_pt = shuffled_positions(pairs())
        moved = one_way(made(name), random_model(1), at_positions(pairs(), order_pt))
        close(moved, laid_out(scored(name), order_pt))

    @EVERY
    def test_the_order_of_genes_in_a_cell(self, name: str) -> None:
        ordered = pair_of(([1, 4, 6], [2, 4]), ([1, 2, 3], [4, 1]))
        shuffled = pair_of(([6, 1, 4], [4, 2]), ([3, 1, 2], [1, 4]))
        one, other = (one_way(made(name), random_model(1), b) for b in (ordered, shuffled))
        close(one, other)

    @EVERY
    def test_longer_sequences_of_the_cells(self, name: str) -> None:
        """A long cell in the batch makes every row longer; nobody else's scores notice."""
        cells = wider(random_cells(12, 2), 5)
        longer = blend(cells, torch.arange(6), torch.arange(6, 12))
        close(one_way(made(name), random_model(1), longer), scored(name))

    @EVERY
    def test_runs_repeat_and_leave_the_random_state_alone(self, name: str) -> None:
        model = random_model(1)
        torch.manual_seed(123)
        before = torch.get_rng_state()
        again = one_way(made(name), model, pairs())
        assert torch.equal(torch.get_rng_state(), before)
        for part in PARTS:
            one, other = getattr(again, part), getattr(scored(name), part)
            assert one is None or torch.equal(one, other)

    @EVERY
    def test_key_biases(self, name: str) -> None:
        """A constant added to a row of attention scores is no evidence."""
        model = random_model(1)
        for i, attention in enumerate(attentions(model)):
            noise = torch.randn(8, generator=torch.Generator().manual_seed(i)).double()
            attention.k_lin.bias.data += 3 * noise
        close(one_way(made(name), model, pairs()), scored(name))

    @EVERY
    def test_turning_queries_and_keys_together(self, name: str) -> None:
        model = random_model(1)
        noise = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(1)).double()
        turn_dd = torch.block_diag(*torch.linalg.qr(noise).Q)  # one rotation a head
        for attention in attentions(model):
            for lin in (attention.q_lin, attention.k_lin):
                lin.weight.data = turn_dd @ lin.weight.data
                lin.bias.data = turn_dd @ lin.bias.data
        close(one_way(made(name), model, pairs()), scored(name))


#: Pairs that are unlike the others.
EDGES: dict[str, Callable[[], BlendedBatch]] = {
    "no shared gene": lambda: pair_of(([0, 1, 2], [3, 4]), ([1, 2, 3], [2, 2])),
    "one gene each, the same": lambda: pair_of(([3], [3]), ([1], [4])),
    "one gene each": lambda: pair_of(([3], [4]), ([1], [4])),
    "one gene and many": lambda: pair_of(([3], [1, 3, 5]), ([1], [4, 2, 1])),
    "many and one": lambda: pair_of(([1, 3, 5], [3]), ([4, 2, 1], [1])),
}


class TestPromises:
    @those(lambda m: m.complete)
    @pytest.mark.parametrize("baseline", BASELINES)
    def test_complete(self, name: str, baseline: str) -> None:
        for one in BASELINES[baseline]().passes(pairs()):
            complete_enough(name, random_model(1), one.blended)

    @those(lambda m: not m.complete)
    def test_a_method_that_does_not_promise_it_is_not_complete(self, name: str) -> None:
        assert scored(name).relative_delta_p.median() > 0.02

    @those(lambda m: m.symmetric)
    def test_symmetric(self, name: str) -> None:
        backward = one_way(made(name), random_model(1), pairs().swap())
        close(backward.negated(), scored(name))
        torch.testing.assert_close(backward.f_input_p, scored(name).f_baseline_p)

    @those(lambda m: not m.symmetric)
    def test_a_method_that_does_not_promise_it_is_not_symmetric(self, name: str) -> None:
        backward = one_way(made(name), random_model(1), pairs().swap())
        together = (backward.scores_pt + scored(name).scores_pt).abs().max()
        assert together > 0.01 * scored(name).scores_pt.abs().max()

    @those(lambda m: m.needs_baseline)
    def test_depends_on_the_baseline(self, name: str) -> None:
        cells, tables = random_cells(3, 2), []
        for baseline in (1, 2):
            blended = blend(cells, torch.tensor([0]), torch.tensor([baseline]))
            scores_t = one_way(made(name), random_model(1), blended).scores_pt[0]
            tables.append(scores_t[blended.gene_ids_pt[0] == int(cells.gene_ids_nt[0, 3])])
        assert len(tables[0]) == 1
        assert (tables[0] != tables[1]).all()

    @EVERY
    @pytest.mark.parametrize("edge", EDGES)
    def test_unusual_pairs(self, name: str, edge: str) -> None:
        model, blended = random_model(1), EDGES[edge]()
        is_sound(name, blended, one_way(made(name), model, blended))
        if METHODS[name].complete:
            complete_enough(name, model, blended)

    @EVERY
    @pytest.mark.parametrize("baseline", BASELINES)
    def test_every_baseline(self, name: str, baseline: str) -> None:
        strategy, method = BASELINES[baseline](), made(name)
        if (name, baseline) in REFUSED:
            with pytest.raises(
                AttributionError, match=f"{name} embeds.*baseline={baseline}.*to fix"
            ):
                method.attribute(random_model(1), pairs(), MARGIN, strategy)
            return
        found = method.attribute(random_model(1), pairs(), MARGIN, strategy)
        for direction, one in zip(("forward", "backward"), strategy.passes(pairs()), strict=True):
            is_sound(name, one.blended, getattr(found, direction))

    @EVERY
    def test_the_empty_baseline_is_the_physically_shortened_cell(self, name: str) -> None:
        blended = pair_of(([1, 4, 6], [2, 4]), ([1, 2, 3], [4, 1]))
        found, expected = (
            one_way(made(name), random_model(1), b)
            for b in (blended.without_baseline_genes(), against_a_bare_row(blended))
        )
        close(found, expected)
        torch.testing.assert_close(found.f_baseline_p, expected.f_baseline_p)


class TestReadings:
    @EVERY
    @pytest.mark.parametrize(("kind", "labels"), TARGETS)
    def test_every_target(self, name: str, kind: str, labels: str) -> None:
        model, asked = random_model(1), target(kind, labels)
        found = one_way(made(name), model, pairs(), asked)
        is_sound(name, pairs(), found)
        f_n = f_of(model, pairs().cells, asked)
        torch.testing.assert_close(found.f_input_p, f_n[:6], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found.f_baseline_p, f_n[6:], rtol=1e-10, atol=1e-12)

    @EVERY
    @pytest.mark.parametrize("variant", SOME_VARIANTS)
    def test_every_kind_of_model(self, name: str, variant: str) -> None:
        model = random_model(1, **VARIANTS[variant])
        found = one_way(made(name), model, pairs())
        is_sound(name, pairs(), found)
        f_n = f_of(model, pairs().cells, MARGIN)
        torch.testing.assert_close(found.f_input_p, f_n[:6], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found.f_baseline_p, f_n[6:], rtol=1e-10, atol=1e-12)
        order_pt = shuffled_positions(pairs())
        moved = one_way(made(name), model, at_positions(pairs(), order_pt))
        close(moved, laid_out(found, order_pt))
        if METHODS[name].complete:
            complete_enough(name, model, pairs())

    @those(lambda m: issubclass(m, EmbeddingMethod))
    @pytest.mark.parametrize("layer", get_args(Layer))
    def test_every_layer(self, name: str, layer: str) -> None:
        method = made(name, layer=layer)
        assert method.is_complete == (METHODS[name].complete and layer == "total")
        blank = [] if (name, "zero") in REFUSED else [pairs().with_blank_genes()]
        for blended in (pairs(), *blank):
            found = one_way(method, random_model(1), blended)
            is_sound(name, blended, found)
            assert (found.embedding_pt != 0).any()
            torch.testing.assert_close(found.f_input_p, scored(name).f_input_p)
        if method.needs_baseline and layer == "identity":
            # A gene is the same gene in whatever bin.
            both_pt = pairs().input.attention_mask_nt & pairs().baseline.attention_mask_nt
            found = one_way(method, random_model(1), pairs())
            assert (found.embedding_pt[both_pt & (pairs().gene_ids_pt >= 0)] == 0).all()

    @those(lambda m: m.complete and issubclass(m, EmbeddingMethod))
    def test_value_and_identity_add_up(self, name: str) -> None:
        """That a gene is there is a fact about the gene: presence is the identity's."""
        parameters, bound, _ = NEARLY.get(name, EXACTLY)
        value, identity = (
            one_way(made(name, layer=layer, **parameters), random_model(1), pairs())
            for layer in ("value", "identity")
        )
        assert value.presence_pt is not None
        assert identity.presence_pt is not None
        assert (value.presence_pt == 0).all()
        assert (identity.presence_pt != 0).any()
        both = replace(
            value,
            scores_pt=value.scores_pt + identity.scores_pt,
            embedding_pt=value.embedding_pt + identity.embedding_pt,
        )
        assert both.relative_delta_p.max() <= bound


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


class TestBorrowing:
    @EVERY
    @pytest.mark.parametrize("around", SURROUNDINGS)
    def test_the_surroundings_change_nothing(self, name: str, around: str) -> None:
        model, method = random_model(0, torch.float32), made(name)
        for strategy in (BASELINES["cell_state"](), BASELINES["empty"]()):
            expected = method.attribute(model, blended_pairs(4), MARGIN, strategy)
            with SURROUNDINGS[around]():
                # Made inside: under inference mode the batch consists of inference tensors.
                blended = blended_pairs(4)
                assert blended.cells.input_ids_nt.is_inference() == (around == "inference_mode")
                found = method.attribute(model, blended, MARGIN, strategy)
            self.equal(found, expected)

    def equal(self, found: Attribution, expected: Attribution) -> None:
        for direction in ("forward", "backward"):
            one, other = getattr(found, direction), getattr(expected, direction)
            assert torch.equal(one.scores_pt, other.scores_pt)
            assert torch.equal(one.f_input_p, other.f_input_p)
            assert not one.scores_pt.requires_grad
            assert not one.f_input_p.requires_grad

    @EVERY
    @pytest.mark.parametrize("training", [True, False])
    def test_the_model_comes_back_as_it_was(self, name: str, training: bool) -> None:
        model = random_model().train(training)
        model.head_projector.weight.requires_grad_(False)
        before = everything(model)
        made(name).attribute(model, pairs(), MARGIN)
        assert same(before, everything(model))

    @EVERY
    @pytest.mark.parametrize("way", ["forward", "backward"])
    def test_also_after_an_exception_in_the_middle(self, name: str, way: str) -> None:
        model, method = random_model(1), made(name)
        before, blended = everything(model), blended_pairs(3, 2)
        expected = method.attribute(model, blended, MARGIN).forward
        with interrupted(model, way, at=0) as passed:
            method.attribute(model, blended, MARGIN)
        # A method without gradients passes nothing backward.
        assert passed or not issubclass(METHODS[name], EmbeddingMethod)
        for at in sorted({1, (1 + len(passed)) // 2, len(passed)} - {0} if passed else ()):
            with pytest.raises(InterruptedWorkError), interrupted(model, way, at):
                method.attribute(model, blended, MARGIN)
            assert same(before, everything(model))
        again = method.attribute(model, blended, MARGIN).forward
        assert torch.equal(again.scores_pt, expected.scores_pt)

    @EVERY
    def test_the_batch_is_not_changed(self, name: str) -> None:
        blended = blended_pairs(4)
        before = blended.clone()
        made(name).attribute(random_model(), blended, MARGIN)
        for tokens, other in (
            (blended.cells, before.cells),
            (blended.input, before.input),
            (blended.baseline, before.baseline),
        ):
            for part, value in tokens.tensors().items():
                assert torch.equal(value, other.tensors()[part])


#: Bounds on the rounding error of scores against float64 arithmetic on the same weights, in float32
#: and with bfloat16 weights, relative to the largest |score| or |f| of the batch: scores are
#: differences of f, which is off by up to 4e-6 and 0.12 itself. They are 1.3 to 3 times the worst
#: of 20 models with 12 pairs each; a new method has those of the last line.
ROUNDING: dict[str, tuple[float, float]] = {
    "deeplift": (2e-5, 0.03),
    "integrated_gradients": (2e-6, 0.03),
    "gradient_shap": (2e-6, 0.03),
    "grad_x_delta": (2e-5, 0.1),
    "input_x_gradient": (2e-5, 0.2),
    "gim": (4e-6, 0.05),
    "swap_occlusion": (1e-5, 0.2),
    "remove_occlusion": (1e-5, 0.2),
    "random": (1e-7, 0.004),
    "captum_deeplift": (2e-5, 0.1),
    "captum_integrated_gradients": (2e-6, 0.04),
}
WORST = (2e-5, 0.2)


class TestPrecision:
    @EVERY
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_less_of_it_stays_within_a_bound(self, name: str, dtype: torch.dtype) -> None:
        bound = ROUNDING.get(name, WORST)[dtype == torch.bfloat16]
        for seed in (1, 4, 6):
            model, blended = random_model(seed, dtype), blended_pairs(6, seed)
            found = one_way(made(name), model, blended)
            assert torch.promote_types(found.scores_pt.dtype, dtype) == found.scores_pt.dtype
            exact = one_way(made(name), model.double(), blended)
            error = (found.scores_pt.double() - exact.scores_pt).abs().max()
            largest = max(
                float(x.abs().max()) for x in (exact.scores_pt, exact.f_input_p, exact.f_baseline_p)
            )
            assert error <= bound * largest
