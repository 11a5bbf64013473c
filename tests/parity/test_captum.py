"""`grad_x_delta` is what Captum's `LayerDeepLift` computes on a transformer, pair by pair."""

from __future__ import annotations

import warnings

import pytest
import torch
from captum.attr import DeepLift as CaptumDeepLift
from captum.attr import LayerDeepLift
from torch import Tensor, nn

from gradgene.attribution import GradXDelta, Target
from gradgene.attribution.rules import secant
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch
from gradgene.tokens import TokenBatch, mask_category
from tests.attribution.toys import KINDS, blended_pairs, one_way, random_model, target

#: Largest difference over largest score; the issue asks for 1e-5.
WORST = {torch.float32: 1e-5, torch.float64: 1e-10}


class Reader(nn.Module):
    """The model as Captum wants it: tensors in, one number a row out."""

    def __init__(self, model: PhenotypeGeneTransformer, asked: Target) -> None:
        super().__init__()
        self.model, self.bound = model, asked.bind(model.vocabulary)

    def forward(self, ids_nt: Tensor, types_nt: Tensor, mask_nt: Tensor) -> Tensor:
        tokens = TokenBatch(ids_nt, types_nt, mask_nt, torch.full_like(ids_nt, -1))
        logits = self.model.read(self.model.embed(tokens), mask_nt, self.bound.category)
        return self.bound.read(logits)


def by_captum(
    model: PhenotypeGeneTransformer, blended: BlendedBatch, asked: Target
) -> tuple[Tensor, Tensor]:
    """Scores (pairs, positions) and deltas (pairs,); the baseline row has its own mask."""
    masked, _ = mask_category(blended.cells, model.vocabulary, asked.category)
    shown = blended.with_cells(masked)
    explainer = LayerDeepLift(Reader(model, asked).eval(), model.embedding_norm)
    scores, deltas = [], []
    for p in range(len(shown)):
        members = [
            tuple(x[p : p + 1] for x in (m.input_ids_nt, m.token_type_ids_nt, m.attention_mask_nt))
            for m in (shown.input, shown.baseline)
        ]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting forward, backward hooks")
            score_1td, delta_1 = explainer.attribute(*members, return_convergence_delta=True)
        scores.append(score_1td.sum(dim=-1).detach())
        deltas.append(delta_1.detach())
    return torch.cat(scores), torch.cat(deltas)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_grad_x_delta_equals_layer_deep_lift(kind: str, dtype: torch.dtype) -> None:
    model, blended = random_model(2, dtype), blended_pairs(12, 5)
    for pairs in (blended, blended.swap()):
        expected_pt, delta_p = by_captum(model, pairs, target(kind))
        found = one_way(GradXDelta(), model, pairs, target(kind))
        error = (found.scores_pt - expected_pt).abs().max() / expected_pt.abs().max()
        assert error <= WORST[dtype]
        # Captum counts the same shortfall with the other sign.
        torch.testing.assert_close(-found.delta_p, delta_p.to(dtype), rtol=1e-4, atol=1e-5)


def test_the_secant_is_captums_rule_on_a_relu_network() -> None:
    """Where Captum does hook the non-linearity, our elementwise rule is the same rule."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    net.double()
    x, b = torch.randn(2, 20, 5, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting forward, backward hooks")
        expected = CaptumDeepLift(net).attribute(x.clone().requires_grad_(True), b)
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
