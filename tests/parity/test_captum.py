"""Captum, called as it is and through our classes: what it equals and what it cannot do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from captum.attr import DeepLift as CaptumsDeepLift
from captum.attr import LayerDeepLift, LayerIntegratedGradients
from torch import Tensor, nn

from gradgene.attribution import (
    Attribution,
    CaptumDeepLift,
    CaptumIntegratedGradients,
    DirectionScores,
    GradXDelta,
    build_method,
)
from gradgene.attribution.captum_reader import CaptumMethod, CaptumReader, Inputs
from gradgene.attribution.members import Layer
from gradgene.attribution.rules import secant
from gradgene.errors import AttributionError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, ZeroBaseline, blend
from gradgene.tokens import mask_category
from tests.attribution.toys import (
    KINDS,
    MARGIN,
    blended_pairs,
    cells_of,
    everything,
    random_cells,
    random_model,
    same,
    target,
)

#: Largest difference over largest score; the issue asks for 1e-5.
WORST = {torch.float32: 1e-5, torch.float64: 1e-10}
#: The modules that a user of Captum would name.
MODULES = {
    "total": "embedding_norm",
    "value": "value_embedding",
    "identity": "identity_embedding",
}
LAYERS = pytest.mark.parametrize("layer", MODULES)
TARGETS = [*((k, "category") for k in KINDS), *((k, "all") for k in KINDS[2:])]
#: Models without a module that Captum's DeepLIFT knows.
SMOOTH: list[dict[str, Any]] = [{}, {"activation": "silu", "norm": "rms", "norm_first": True}]


def both(found: Attribution) -> tuple[DirectionScores, DirectionScores]:
    return found.forward, found.backward


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kind", "vocabulary"), TARGETS)
@LAYERS
def test_grad_x_delta_equals_captums_deeplift(
    layer: Layer, kind: str, vocabulary: str, dtype: torch.dtype
) -> None:
    asked = target(kind, vocabulary)
    for size in SMOOTH:
        model, blended = random_model(2, dtype, **size), blended_pairs(6, 5)
        ours = GradXDelta(layer=layer).attribute(model, blended, asked)
        theirs = CaptumDeepLift(layer=layer).attribute(model, blended, asked)
        for one, other in zip(both(ours), both(theirs), strict=True):
            error = (one.scores_pt - other.scores_pt).abs().max()
            assert error <= WORST[dtype] * other.scores_pt.abs().max()
            torch.testing.assert_close(one.f_input_p, other.f_input_p)
            torch.testing.assert_close(one.f_baseline_p, other.f_baseline_p)


def by_captum(
    model: PhenotypeGeneTransformer, blended: BlendedBatch, layer: str, n_steps: int | None
) -> tuple[Tensor, Tensor]:
    """Scores (pairs, positions) and convergence deltas (pairs,) of Captum called by hand."""
    masked, _ = mask_category(blended.cells, model.vocabulary, MARGIN.category)
    shown = blended.with_cells(masked)
    reader = CaptumReader(model, MARGIN.bind(model.vocabulary)).eval()
    at = model.get_submodule(MODULES[layer])
    explain = LayerIntegratedGradients(reader, at) if n_steps else LayerDeepLift(reader, at)
    scores, deltas = [], []
    for p in range(len(shown)):
        members = [
            tuple(x[p : p + 1] for x in (m.input_ids_nt, m.token_type_ids_nt, m.attention_mask_nt))
            for m in (shown.input, shown.baseline)
        ]
        steps = {"n_steps": n_steps} if n_steps else {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting forward, backward hooks")
            score_1td, delta_1 = explain.attribute(*members, return_convergence_delta=True, **steps)
        scores.append(score_1td.sum(dim=-1).detach())
        deltas.append(delta_1.detach())
    return torch.cat(scores), torch.cat(deltas)


@pytest.mark.parametrize("n_steps", [None, 7])
@LAYERS
def test_what_is_left_open_is_captums_own_delta(layer: Layer, n_steps: int | None) -> None:
    """Its baseline row has its own mask in the delta, whatever mask its path had."""
    model, blended = random_model(3), blended_pairs(5, 6)
    method = (
        CaptumIntegratedGradients(layer=layer, n_steps=n_steps)
        if n_steps
        else CaptumDeepLift(layer=layer)
    )
    found = both(method.attribute(model, blended, MARGIN))
    for scores, pairs in zip(found, (blended, blended.swap()), strict=True):
        scores_pt, delta_p = by_captum(model, pairs, layer, n_steps)
        torch.testing.assert_close(scores.scores_pt, scores_pt, rtol=1e-10, atol=1e-12)
        # Captum counts the same shortfall with the other sign.
        torch.testing.assert_close(-scores.delta_p, delta_p, rtol=1e-8, atol=1e-10)


def identical_genes(n: int) -> BlendedBatch:
    """Pairs with the same genes in other bins, so that both masks are one."""
    draw = torch.Generator().manual_seed(4)
    genes = [sorted(torch.randperm(12, generator=draw)[:7].tolist()) for _ in range(n)] * 2
    bins = torch.randint(1, 5, (2 * n, 7), generator=draw).tolist()
    labels = random_cells(2 * n, seed=9).input_ids_nt[:, 1:3]
    return blend(cells_of(genes, bins, labels), torch.arange(n), torch.arange(n, 2 * n))


@pytest.fixture
def captums_weights_in_double_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It rounds the weights of its nodes to single precision, which leaves 1e-8 (see below)."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("captums_weights_in_double_precision")
@pytest.mark.parametrize("kind", KINDS)
@LAYERS
def test_integrated_gradients_are_captums_where_gene_sets_are_identical(
    layer: Layer, kind: str
) -> None:
    """At equal nodes; the identity embeddings are then the same and score 0."""
    check_identical_gene_sets(layer, kind, 1e-12)


def test_with_captums_own_weights_that_is_as_good_as_these_are() -> None:
    check_identical_gene_sets("total", "margin", 1e-8)


def check_identical_gene_sets(layer: Layer, kind: str, worst: float) -> None:
    model, blended = random_model(5), identical_genes(6)
    for n_steps in (5, 20):
        ours, theirs = (
            build_method(name, n_steps=n_steps, layer=layer).attribute(model, blended, target(kind))
            for name in ("integrated_gradients", "captum_integrated_gradients")
        )
        for one, other in zip(both(ours), both(theirs), strict=True):
            assert one.presence_pt is None or not one.presence_pt.any()
            scale = float(other.scores_pt.abs().max())
            torch.testing.assert_close(one.scores_pt, other.scores_pt, rtol=0, atol=worst * scale)


def test_captums_integrated_gradients_never_close_where_gene_sets_differ() -> None:
    """More steps do not help: its path ends at the baseline's embeddings with the input's mask."""
    model, blended = random_model(6), blended_pairs(12, 7)
    left = {
        (name, n): build_method(name, n_steps=n)
        .attribute(model, blended, MARGIN)
        .forward.relative_delta_p
        for name in ("integrated_gradients", "captum_integrated_gradients")
        for n in (50, 200)
    }
    captums = left["captum_integrated_gradients", 50]
    assert float(captums.median()) > 0.1
    after = left["captum_integrated_gradients", 200]
    torch.testing.assert_close(after, captums, rtol=0.02, atol=1e-3)
    ours = left["integrated_gradients", 200]
    assert float(ours.max()) < 1e-3
    assert float(ours.max()) < 1e-3 * float(captums.max())


def test_a_relu_is_what_captums_deeplift_knows() -> None:
    """Then it is more than gradient times difference; nothing stays on the model."""
    model, blended = random_model(2, activation="relu"), blended_pairs(6, 5)
    before = everything(model), attributes(model)
    theirs = CaptumDeepLift().attribute(model, blended, MARGIN).forward
    ours = GradXDelta().attribute(model, blended, MARGIN).forward
    assert not torch.allclose(theirs.scores_pt, ours.scores_pt, rtol=1e-3)
    assert same(before[0], everything(model)) and before[1] == attributes(model)


def attributes(model: nn.Module) -> dict[str, set[str]]:
    return {name: set(vars(module)) for name, module in model.named_modules()}


@pytest.mark.parametrize("name", ["captum_deeplift", "captum_integrated_gradients"])
def test_nothing_stays_behind_an_exception(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle, when hooks are on and activations are kept."""
    model, blended = random_model(2, activation="relu"), blended_pairs(3, 5)

    def broken(*_: object) -> Tensor:
        raise ZeroDivisionError("in the middle")

    before = everything(model), attributes(model)
    with monkeypatch.context() as patched:
        patched.setattr("gradgene.attribution.target.BoundTarget.read", broken)
        with pytest.raises(ZeroDivisionError, match="in the middle"):
            build_method(name).attribute(model, blended, MARGIN)
    assert same(before[0], everything(model)) and before[1] == attributes(model)


def test_other_warnings_are_the_users() -> None:
    """Only Captum's announcement of its hooks is kept from them, and only while it runs."""

    class Noisy(CaptumMethod):
        name = "noisy"
        complete = symmetric = needs_baseline = sees_presence = False

        def explain(self, reader: CaptumReader, layer: nn.Module, i: Inputs, b: Inputs) -> Tensor:
            warnings.warn("Setting forward, backward hooks and so on", stacklevel=2)
            warnings.warn("something else", stacklevel=2)
            return torch.zeros(1, i[0].shape[1], 8)

    with pytest.warns(UserWarning, match="something else") as caught:
        Noisy().attribute(random_model(), blended_pairs(1), MARGIN)
    assert len(caught) == 2  # forward and backward


@pytest.mark.parametrize("name", ["captum_deeplift", "captum_integrated_gradients"])
def test_a_zero_baseline_cannot_be_said_in_tokens(name: str) -> None:
    model, blended = random_model(), blended_pairs(2)
    with pytest.raises(AttributionError, match="choose another baseline"):
        build_method(name).attribute(model, blended, MARGIN, ZeroBaseline())


@pytest.mark.parametrize("n_steps", [0, -1])
def test_a_path_needs_a_step(n_steps: int) -> None:
    with pytest.raises(AttributionError, match=r"n_steps.*positive"):
        CaptumIntegratedGradients(n_steps=n_steps)


def test_the_secant_is_captums_rule_on_a_relu_network() -> None:
    """Where Captum does hook the non-linearity, our elementwise rule is the same rule."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    net.double()
    x, b = torch.randn(2, 20, 5, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting forward, backward hooks")
        expected = CaptumsDeepLift(net).attribute(x.clone().requires_grad_(True), b)
    with torch.no_grad():
        before = [(x, b)]
        for layer in net:
            before.append((layer(before[-1][0]), layer(before[-1][1])))
    m = torch.ones(20, 1, dtype=torch.float64)
    for layer, (x_in, b_in) in zip(reversed(net), reversed(before[:-1]), strict=True):
        if isinstance(layer, nn.Linear):
            m = m @ layer.weight
        else:
            m = m * secant(x_in, b_in, torch.relu, heaviside)
    torch.testing.assert_close(m * (x - b), expected, rtol=0, atol=1e-6)


def heaviside(x: Tensor) -> Tensor:
    return (x > 0).to(x.dtype)
