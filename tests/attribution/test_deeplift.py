"""Complete DeepLIFT on random models: what spec 0 §3 promises, and values worked out by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from gradgene.attribution import (
    DeepLift,
    DirectionScores,
    GradXDelta,
    Target,
    build_method,
    propagation,
)
from gradgene.attribution.members import Layer
from gradgene.attribution.rules import AttentionStep
from gradgene.errors import AttributionError
from gradgene.models import MultiHeadAttention, PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, EmptyBaseline, blend
from gradgene.tokens import PAD, TokenBatch
from tests.attribution.toys import (
    KINDS,
    MARGIN,
    VOCABULARY,
    at_positions,
    blended_pairs,
    cells_of,
    one_way,
    random_cells,
    random_model,
    target,
)

METHOD = DeepLift()
TARGETS = [*((k, "category") for k in KINDS), *((k, "all") for k in KINDS[2:])]


def attentions(model: nn.Module) -> list[MultiHeadAttention]:
    return [m for m in model.modules() if isinstance(m, MultiHeadAttention)]


def equal(a: DirectionScores, b: DirectionScores, atol: float, sign: int = 1) -> None:
    for name in ("scores_pt", "embedding_pt", "presence_pt"):
        one, other = getattr(a, name), getattr(b, name)
        torch.testing.assert_close(one, sign * other, rtol=0, atol=atol)


class TestCompleteness:
    @pytest.mark.parametrize(("kind", "labels"), TARGETS)
    @pytest.mark.parametrize("n_layers", [1, 2, 3])
    def test_in_float64(self, kind: str, labels: str, n_layers: int) -> None:
        scores = one_way(
            METHOD, random_model(1, n_layers=n_layers), blended_pairs(40, 2), target(kind, labels)
        )
        assert scores.relative_delta_p.max() <= 1e-10

    @pytest.mark.parametrize(("kind", "labels"), TARGETS)
    @pytest.mark.parametrize("seed", [1, 4, 6])
    def test_in_float32(self, kind: str, labels: str, seed: int) -> None:
        scores = one_way(
            METHOD, random_model(seed, torch.float32), blended_pairs(40, seed), target(kind, labels)
        )
        assert scores.scores_pt.dtype == torch.float32
        risen_p = (scores.f_input_p - scores.f_baseline_p).abs()
        unit_p = scores.f_input_p if kind == "probability" else torch.ones(40)
        something_p = risen_p > 0.01 * unit_p
        assert something_p.any()
        assert scores.relative_delta_p[something_p].max() <= 1e-4
        # Where f hardly changes, nothing is left unexplained but the rounding of f itself.
        scale_p = torch.maximum(risen_p, 0.01 * scores.scores_pt.abs().sum(dim=1))
        assert (scores.delta_p.abs() - 1e-4 * scale_p).max() <= 2e-6

    @pytest.mark.parametrize(("kind", "labels"), TARGETS)
    def test_f_is_what_the_model_says_of_each_cell(self, kind: str, labels: str) -> None:
        """Against the whole forward pass on the compact cells and a hand-written softmax."""
        model, blended = random_model(1), blended_pairs(10, 2)
        scores = one_way(METHOD, model, blended, target(kind, labels))
        cells = replace(blended.cells, input_ids_nt=blended.cells.input_ids_nt.clone())
        cells.input_ids_nt[:, 2] = 2  # [MASK] at the disease slot
        with torch.no_grad():
            z_nv = model.eval()(cells).logits_ntv[:, 2]
        among_nv = z_nv if labels == "all" else z_nv[:, 4:7]  # case, control, other
        probability_n = z_nv[:, 4].exp() / among_nv.exp().sum(dim=1)
        f_n = {
            "margin": z_nv[:, 4] - z_nv[:, 5],
            "logit": z_nv[:, 4],
            "log_probability": probability_n.log(),
            "probability": probability_n,
        }[kind]
        torch.testing.assert_close(scores.f_input_p, f_n[:10], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(scores.f_baseline_p, f_n[10:], rtol=1e-10, atol=1e-10)

    def test_a_gradient_is_not_complete_on_these_models(self) -> None:
        """Otherwise the tests above would pass for any method."""
        scores = one_way(GradXDelta(), random_model(1), blended_pairs(40, 2))
        assert scores.relative_delta_p.median() > 0.1


class TestSymmetry:
    @pytest.mark.parametrize(("kind", "labels"), TARGETS)
    def test_the_swapped_pair_gets_the_negated_scores(self, kind: str, labels: str) -> None:
        model, blended, asked = random_model(3), blended_pairs(40, 4), target(kind, labels)
        forward = one_way(METHOD, model, blended, asked)
        backward = one_way(METHOD, model, blended.swap(), asked)
        scale = float(forward.scores_pt.abs().max())
        equal(backward, forward, 1e-12 * max(1.0, scale), sign=-1)
        torch.testing.assert_close(backward.f_input_p, forward.f_baseline_p, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_cell_against_itself_scores_exactly_zero(self, kind: str, dtype: torch.dtype) -> None:
        cells = random_cells(6)
        rows = torch.arange(6)
        scores = one_way(METHOD, random_model(3, dtype), blend(cells, rows, rows), target(kind))
        assert (scores.scores_pt == 0).all()
        assert (scores.embedding_pt == 0).all()
        assert scores.presence_pt is not None
        assert (scores.presence_pt == 0).all()
        # The two passes may round differently, but not by more.
        assert scores.relative_delta_p.max() < 1e-4


class TestInvariance:
    def test_a_batch_of_n_equals_n_batches_of_one(self) -> None:
        model, cells = random_model(5), random_cells(20, 6)
        batch = one_way(METHOD, model, blend(cells, torch.arange(10), torch.arange(10, 20)))
        for i in range(10):
            pair = blend(cells, torch.tensor([i]), torch.tensor([i + 10]))
            alone = one_way(METHOD, model, pair)
            length = alone.scores_pt.shape[1]
            for name in ("scores_pt", "embedding_pt", "presence_pt"):
                of_batch, of_one = getattr(batch, name)[i], getattr(alone, name)[0]
                torch.testing.assert_close(of_batch[:length], of_one, rtol=0, atol=1e-10)
                assert (of_batch[length:] == 0).all()

    def test_more_padding_and_another_order_change_nothing(self) -> None:
        model, blended = random_model(5), blended_pairs(10, 6)
        plain = one_way(METHOD, model, blended)
        p, t = blended.gene_ids_pt.shape
        header = blended.n_header
        order = torch.full((p, t + 3), -1)
        draw = torch.Generator().manual_seed(0)
        for i in range(p):  # anywhere behind the phenotypes, empty positions in between
            places = header + torch.randperm(t + 3 - header, generator=draw)[: t - header]
            order[i, :header] = torch.arange(header)
            order[i, places] = torch.arange(header, t)
        moved = one_way(METHOD, model, at_positions(blended, order))
        for name in ("scores_pt", "embedding_pt", "presence_pt"):
            found, expected_pt = getattr(moved, name), getattr(plain, name)
            back = expected_pt.gather(1, order.clamp(min=0)).masked_fill(order < 0, 0)
            torch.testing.assert_close(found, back, rtol=0, atol=1e-10)

    def test_the_order_of_genes_in_a_cell_changes_nothing(self) -> None:
        model = random_model(5)
        labels = torch.tensor([[7, 4], [8, 5]])
        ordered = cells_of([[1, 4, 6], [2, 4]], [[1, 2, 3], [4, 1]], labels)
        shuffled = cells_of([[6, 1, 4], [4, 2]], [[3, 1, 2], [1, 4]], labels)
        one, other = (
            one_way(METHOD, model, blend(c, torch.tensor([0]), torch.tensor([1])))
            for c in (ordered, shuffled)
        )
        equal(one, other, 1e-10)

    def test_key_biases_change_nothing(self) -> None:
        model, blended = random_model(5), blended_pairs(40, 6)
        before = one_way(METHOD, model, blended)
        for i, attention in enumerate(attentions(model)):
            noise = torch.randn(8, generator=torch.Generator().manual_seed(i)).double()
            attention.k_lin.bias.data += 3 * noise
        after = one_way(METHOD, model, blended)
        equal(after, before, 1e-10 * max(1.0, float(before.scores_pt.abs().max())))

    def test_turning_queries_and_keys_together_changes_nothing(self) -> None:
        model, blended = random_model(5), blended_pairs(40, 6)
        before = one_way(METHOD, model, blended)
        noise = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(1)).double()
        turn_dd = torch.block_diag(*torch.linalg.qr(noise).Q)  # one rotation a head
        for attention in attentions(model):
            for lin in (attention.q_lin, attention.k_lin):
                lin.weight.data = turn_dd @ lin.weight.data
                lin.bias.data = turn_dd @ lin.bias.data
        after = one_way(METHOD, model, blended)
        equal(after, before, 1e-10 * max(1.0, float(before.scores_pt.abs().max())))


class TestPresence:
    def test_only_genes_of_one_member_have_presence(self) -> None:
        blended = blended_pairs(40, 6)
        presence_pt = one_way(METHOD, random_model(5), blended).presence_pt
        assert presence_pt is not None
        in_i, in_b = blended.input.attention_mask_nt, blended.baseline.attention_mask_nt
        one_sided = in_i ^ in_b
        for kind in (in_i & ~in_b, in_b & ~in_i, in_i & in_b, ~in_i & ~in_b):
            assert kind.any()
        assert (presence_pt[one_sided] != 0).all()
        assert (presence_pt[~one_sided] == 0).all()

    def test_without_any_shared_gene(self) -> None:
        labels = torch.tensor([[7, 4], [8, 5]])
        cells = cells_of([[0, 1, 2], [3, 4]], [[1, 2, 3], [2, 2]], labels)
        scores = one_way(METHOD, random_model(5), blend(cells, rows(0), rows(1)))
        assert float(scores.relative_delta_p) <= 1e-10
        assert (scores.scores_pt[0, 3:8] != 0).all()

    @pytest.mark.parametrize("genes", [([3], [3]), ([3], [4]), ([3], [1, 3, 5])])
    def test_cells_of_one_gene(self, genes: tuple[list[int], list[int]]) -> None:
        bins = [[1], [4, 2, 1][: len(genes[1])]]
        cells = cells_of(genes, bins, torch.tensor([[7, 4], [8, 5]]))
        scores = one_way(METHOD, random_model(5), blend(cells, rows(0), rows(1)))
        assert float(scores.relative_delta_p) <= 1e-10
        assert (scores.f_input_p != scores.f_baseline_p).all()

    def test_the_empty_baseline_is_the_physically_shortened_cell(self) -> None:
        """A row `[CLS] sex disease [EOS]`, written out, as the baseline of every position."""
        model, cells = random_model(5), random_cells(2, 8)
        forward_pass, _ = EmptyBaseline().passes(blend(cells, rows(0), rows(1)))
        header = 3
        bare = cells_of([[]], [[]], cells.input_ids_nt[:1, 1:header])
        assert bare.input_ids_nt.tolist()[0][-1] == 1  # [EOS] right after the phenotypes
        longer = pad_to(bare, cells.input_ids_nt.shape[1])
        joined: dict[str, Any] = {
            k: torch.cat([v, longer.tensors()[k]]) for k, v in cells.tensors().items()
        }
        both = replace(cells, **joined)
        n_union = int((forward_pass.blended.gene_ids_pt >= 0).sum())
        columns = torch.full_like(forward_pass.blended.gene_ids_pt, -1)
        columns[0, :header] = torch.arange(header)
        columns[0, header + n_union] = header
        physical = replace(
            forward_pass.blended,
            cells=both,
            baseline_rows_p=rows(2),
            baseline_columns_pt=columns,
        ).with_cells(both)
        ours = one_way(METHOD, model, forward_pass.blended)
        theirs = one_way(METHOD, model, physical)
        equal(ours, theirs, 1e-12)
        masked = replace(bare, input_ids_nt=bare.input_ids_nt.clone())
        masked.input_ids_nt[:, 2] = 2
        with torch.no_grad():
            z = model.eval()(masked).logits_ntv[0, 2]
        assert float(ours.f_baseline_p) == pytest.approx(float(z[4] - z[5]), abs=1e-10)
        assert float(ours.relative_delta_p) <= 1e-10

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_zero_baseline(self, kind: str) -> None:
        """Every gene stays where it is, attended to, with an embedding of zero."""
        model, blended = random_model(5), blended_pairs(20, 6).with_blank_genes()
        scores = one_way(METHOD, model, blended, target(kind))
        assert scores.relative_delta_p.max() <= 1e-10
        assert (scores.f_input_p != scores.f_baseline_p).all()
        assert scores.presence_pt is not None
        assert (scores.presence_pt == 0).all()
        assert (scores.scores_pt[blended.gene_ids_pt < 0] == 0).all()


LAYERS: tuple[Layer, ...] = ("value", "identity")


class TestLayers:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("kind", KINDS)
    def test_value_and_identity_make_up_the_difference(self, kind: str, dtype: torch.dtype) -> None:
        model, blended = random_model(5, dtype), blended_pairs(40, 6)
        value, identity = (
            one_way(DeepLift(layer), model, blended, target(kind)) for layer in LAYERS
        )
        summed = replace(value, scores_pt=value.scores_pt + identity.scores_pt)
        risen_p = (value.f_input_p - value.f_baseline_p).abs()
        exact = dtype == torch.float64
        assert summed.relative_delta_p[exact | (risen_p > 0.01)].max() <= (1e-10 if exact else 1e-4)
        # One share alone does not.
        assert value.relative_delta_p.median() > 0.01
        assert identity.relative_delta_p.median() > 0.01

    def test_f_is_that_of_the_whole_embedding(self) -> None:
        model, blended = random_model(5), blended_pairs(40, 6)
        total = one_way(METHOD, model, blended)
        for layer in LAYERS:
            scores = one_way(DeepLift(layer), model, blended)
            for name in ("f_input_p", "f_baseline_p"):
                found, expected = getattr(scores, name), getattr(total, name)
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)

    def test_presence_is_of_the_identity(self) -> None:
        """And is the same whichever embedding the multipliers are carried to."""
        model, blended = random_model(5), blended_pairs(40, 6)
        total, value, identity = (
            one_way(DeepLift(layer), model, blended) for layer in get_args(Layer)
        )
        assert value.presence_pt is not None
        assert identity.presence_pt is not None
        assert (value.presence_pt == 0).all()
        torch.testing.assert_close(identity.presence_pt, total.presence_pt, rtol=0, atol=1e-12)

    def test_the_same_genes_in_other_bins_leave_the_identity_at_zero(self) -> None:
        cells = cells_of([[0, 1, 2], [0, 1, 2]], [[4, 1, 3], [1, 3, 3]], torch.tensor([[7, 4]] * 2))
        blended = blend(cells, rows(0), rows(1))
        value, identity = (one_way(DeepLift(layer), random_model(5), blended) for layer in LAYERS)
        assert (identity.scores_pt == 0).all()
        assert (value.scores_pt[0, [3, 4]] != 0).all()
        assert (value.scores_pt[0, [0, 1, 2, 5, 6]] == 0).all()
        assert float(value.relative_delta_p) <= 1e-10

    def test_a_value_of_zero_is_a_matter_of_the_value_alone(self) -> None:
        model, blended = random_model(5), blended_pairs(20, 6).with_blank_genes()
        value, identity = (one_way(DeepLift(layer), model, blended) for layer in LAYERS)
        assert value.relative_delta_p.max() <= 1e-10
        # Without its identity a gene is another gene: what is left out there is the identity's.
        assert identity.relative_delta_p.max() <= 1e-10
        assert (value.f_baseline_p - identity.f_baseline_p).abs().min() > 0

    @pytest.mark.parametrize("layer", LAYERS)
    def test_the_swapped_pair_gets_the_negated_scores(self, layer: Layer) -> None:
        model, blended = random_model(3), blended_pairs(40, 4)
        forward = one_way(DeepLift(layer), model, blended)
        backward = one_way(DeepLift(layer), model, blended.swap())
        scale = max(1.0, float(forward.scores_pt.abs().max()))
        equal(backward, forward, 1e-12 * scale, sign=-1)


class TestRecomputation:
    @pytest.mark.parametrize("size", [{}, {"norm_first": True}], ids=["post-norm", "pre-norm"])
    def test_blocks_run_again_give_what_one_long_tape_gives(
        self, size: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With no module taken for a block, all steps are on one tape and nothing is run again."""
        model, blended = random_model(5, n_layers=3, **size), blended_pairs(10, 6)
        block_by_block = one_way(METHOD, model, blended)
        monkeypatch.setattr(propagation, "Block", NoModule)
        monkeypatch.setattr(propagation, "PairedBlock", None)
        equal(one_way(METHOD, model, blended), block_by_block, 1e-12)

    @pytest.mark.parametrize("fails_at", [1, 2, 3])
    def test_the_model_is_as_before_after_an_exception_inside_a_block(
        self, fails_at: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In the backward pass of the third, second and first block."""
        model, blended = random_model(5, n_layers=3), blended_pairs(4)
        model.get_parameter("blocks.1.lin1.weight").requires_grad_(False)
        model.blocks[2].eval()
        before = {k: v.clone() for k, v in model.state_dict().items()}
        flags = [m.training for m in model.modules()]
        calls = 0

        def fail(*args: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == fails_at:
                raise ArithmeticError("in the middle")
            return AttentionStep(*args)

        monkeypatch.setattr(propagation, "AttentionStep", fail)
        with pytest.raises(ArithmeticError, match="in the middle"):
            METHOD.attribute(model, blended, MARGIN)
        assert calls == fails_at
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert [m.training for m in model.modules()] == flags
        assert not any("forward" in vars(m) for m in model.modules())
        frozen = [name for name, w in model.named_parameters() if not w.requires_grad]
        assert frozen == ["blocks.1.lin1.weight"]

    @pytest.mark.slow
    def test_memory_grows_with_length_and_not_with_its_square(
        self, peaks_mb: dict[tuple[int, int], float]
    ) -> None:
        """All weights of a layer at 1,760 and 3,520 positions would take 99 and 397 MB."""
        short, long = peaks_mb[1600, 2], peaks_mb[3200, 2]
        assert 5 < short < 99
        assert long / short < 2.6

    @pytest.mark.slow
    def test_more_layers_cost_what_they_are_given_and_not_their_workings(
        self, peaks_mb: dict[tuple[int, int], float]
    ) -> None:
        """A block's workings are 40 times its input; what six blocks keep is 2 inputs each."""
        few, many = peaks_mb[1600, 2], peaks_mb[1600, 8]
        input_mb = 1763 * 64 * 4 / 2**20
        assert many - few < 6 * 2 * input_mb * 1.25


@pytest.fixture(scope="module")
def peaks_mb() -> dict[tuple[int, int], float]:
    """What `deeplift_memory.py` finds of models of (genes, layers)."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak is read from /proc")
    sizes = [(1600, 2), (3200, 2), (1600, 8)]
    program = Path(__file__).with_name("deeplift_memory.py")
    words = [f"{n_genes}x{n_layers}" for n_genes, n_layers in sizes]
    # Large tensors are given back at once, so that what is resident is what is held.
    glibc = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000"}
    environment = {**os.environ, **glibc, "MALLOC_ARENA_MAX": "1"}
    said = subprocess.check_output(
        [sys.executable, str(program), *words], text=True, env=environment
    )
    return dict(zip(sizes, map(float, said.split()), strict=True))


class NoModule(nn.Module):
    """Nothing is an instance of it."""


class TestHalfPrecision:
    """Weights of 8 bits: activations are rounded to 0.4 %, and f of each member with them."""

    @pytest.mark.parametrize("size", [{}, {"norm_first": True, "norm": "rms"}], ids=["ours", "rms"])
    def test_scores_are_near_those_of_exact_arithmetic(self, size: dict[str, Any]) -> None:
        off = []
        for seed in range(4):
            model, blended = random_model(seed, torch.bfloat16, **size), blended_pairs(40, seed)
            rough = one_way(METHOD, model, blended)
            assert rough.scores_pt.dtype == torch.float32
            exact = one_way(METHOD, model.double(), blended).scores_pt
            off.append((rough.scores_pt - exact).abs().amax(dim=1) / exact.abs().amax(dim=1))
        off_p = torch.cat(off)
        assert off_p.median() <= 0.03
        assert off_p.quantile(0.9) <= 0.1

    @pytest.mark.parametrize("size", [{}, {"norm_first": True, "norm": "rms"}], ids=["ours", "rms"])
    def test_what_is_unexplained_is_the_rounding_of_f(self, size: dict[str, Any]) -> None:
        delta = []
        for seed in range(4):
            model, blended = random_model(seed, torch.bfloat16, **size), blended_pairs(40, seed)
            delta.append(one_way(METHOD, model, blended).relative_delta_p)
        assert torch.cat(delta).median() <= 0.15

    def test_a_cell_against_itself_scores_exactly_zero(self) -> None:
        pairs = blend(random_cells(6), torch.arange(6), torch.arange(6))
        assert (one_way(METHOD, random_model(3, torch.bfloat16), pairs).scores_pt == 0).all()

    def test_the_swapped_pair_gets_the_negated_scores(self) -> None:
        model, blended = random_model(3, torch.bfloat16), blended_pairs(40, 4)
        forward, backward = (one_way(METHOD, model, b) for b in (blended, blended.swap()))
        # Not to the last bit: the residual stream of the replayed member is summed in 8 bits.
        scale_p = forward.scores_pt.abs().amax(dim=1)
        off_p = (backward.scores_pt + forward.scores_pt).abs().amax(dim=1) / scale_p
        assert off_p.max() <= 0.05


def rows(*values: int) -> Tensor:
    return torch.tensor(values)


def pad_to(tokens: TokenBatch, length: int) -> TokenBatch:
    more = length - tokens.input_ids_nt.shape[1]
    return TokenBatch(
        nn.functional.pad(tokens.input_ids_nt, (0, more), value=PAD),
        nn.functional.pad(tokens.token_type_ids_nt, (0, more)),
        nn.functional.pad(tokens.attention_mask_nt, (0, more)),
        nn.functional.pad(tokens.gene_ids_nt, (0, more), value=-1),
    )


class TestRefusals:
    @pytest.mark.parametrize(
        "module", [nn.Sigmoid(), nn.Softmax(dim=-1), nn.Tanh(), nn.LeakyReLU()]
    )
    def test_a_step_without_a_rule_is_named(self, module: nn.Module) -> None:
        model = random_model(5)
        model.blocks[0].activation = module
        named = f"{type(module).__name__}.*blocks.0.activation"
        with pytest.raises(AttributionError, match=named):
            METHOD.attribute(model, blended_pairs(2), MARGIN)

    def test_another_gelu_is_refused(self) -> None:
        model = random_model(5)
        model.head_activation = nn.GELU(approximate="tanh")
        with pytest.raises(AttributionError, match="exact GELU"):
            METHOD.attribute(model, blended_pairs(2), MARGIN)


class Sum(nn.Module):
    """`f = 3 g0 - g1 + …`: logits linear in the sum of the tokens, which PAD leaves unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.vocabulary, self.classified = VOCABULARY, None
        self.gene_weight = nn.Embedding(VOCABULARY.n_types, 2)
        self.head = nn.Linear(2, VOCABULARY.n_values)

    def embed(self, tokens: TokenBatch) -> Tensor:
        value_nt = (tokens.input_ids_nt - VOCABULARY.bin_offset).clamp(min=0)
        return value_nt[..., None] * self.gene_weight(tokens.token_type_ids_nt)

    def read(self, embeddings_ntd: Tensor, mask_nt: Tensor, category: str) -> Tensor:
        return self.head(embeddings_ntd.sum(dim=1))


def linear_model() -> PhenotypeGeneTransformer:
    model = Sum().double()
    with torch.no_grad():
        model.gene_weight.weight.zero_()
        model.gene_weight.weight[VOCABULARY.gene_offset + 0] = torch.tensor([3.0, 0.0])
        model.gene_weight.weight[VOCABULARY.gene_offset + 1] = torch.tensor([-1.0, 0.0])
        model.head.weight.zero_()
        model.head.weight[4] = torch.tensor([1.0, 0.0])  # the logit of `case`
    return model  # type: ignore[return-value]


@pytest.mark.parametrize("method", ["deeplift", "grad_x_delta"])
def test_a_linear_model_by_hand(method: str) -> None:
    """Bins are 0 … 4 and f = 3 bin(g0) - bin(g1): scores are the weights times the differences."""
    cells = cells_of([[0, 1, 2], [0, 1, 2]], [[4, 1, 3], [1, 3, 1]], torch.tensor([[7, 4], [8, 5]]))
    blended = blend(cells, rows(0), rows(1))
    result = build_method(method).attribute(linear_model(), blended, MARGIN)
    assert result.forward.scores_pt.tolist() == [[0, 0, 0, 9, 2, 0, 0]]
    assert result.backward.scores_pt.tolist() == [[0, 0, 0, -9, -2, 0, 0]]
    assert result.forward.delta_p.tolist() == [0]


def test_a_linear_model_with_genes_of_one_member() -> None:
    """g0 only in the input, g1 only in the baseline: 3·4 and -(-1·3), both from the embedding."""
    cells = cells_of([[0], [1]], [[4], [3]], torch.tensor([[7, 4], [8, 5]]))
    blended: BlendedBatch = blend(cells, rows(0), rows(1))
    scores = METHOD.attribute(linear_model(), blended, Target("disease", "case", "other")).forward
    assert scores.scores_pt.tolist() == [[0, 0, 0, 12, 3, 0]]
    assert scores.presence_pt is not None
    assert (scores.presence_pt == 0).all()
