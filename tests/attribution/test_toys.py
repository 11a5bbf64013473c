"""Every method on functions of two genes whose scores can be worked out by hand.

A gene in bin b is b times its own axis, and a toy reads the sum x of the tokens that are there (or
attends to them), so that f is a function of the bins x₀ and x₁. Unless a test says otherwise the
input is (4, 1) and the baseline (1, 3). Everything else in a cell is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import asinh, sqrt, tanh
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gradgene.attribution import METHODS, Attribution, build_method
from gradgene.errors import AttributionError
from gradgene.models import AttentionCore, PhenotypeGeneTransformer, UnitNorm
from gradgene.pairs import blend
from gradgene.tokens import TokenBatch
from tests.attribution.toys import MARGIN, N_GENES, VOCABULARY, cells_of

CASE, CONTROL, FEMALE = 4, 5, 7
Bins = dict[int, int]  # of genes
Pair = tuple[float, float]  # one number for each of the two genes


class Toy(nn.Module):
    """What methods use of a model: the logit of `case` is f, all others are 0."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.vocabulary, self.classified = VOCABULARY, "disease"
        self.size = {"dim": N_GENES}
        self.identity_embedding = nn.Embedding(VOCABULARY.n_types, N_GENES)
        self.embedding_norm, self.body = nn.Identity(), body
        with torch.no_grad():
            self.identity_embedding.weight.zero_()
            self.identity_embedding.weight[VOCABULARY.gene_offset :] = torch.eye(N_GENES)

    def embed_parts(self, tokens: TokenBatch) -> tuple[Tensor, Tensor]:
        bin_nt = (tokens.input_ids_nt - VOCABULARY.bin_offset).clamp(min=0)
        whole_ntd = bin_nt[..., None] * self.identity_embedding(tokens.token_type_ids_nt)
        return whole_ntd, torch.zeros_like(whole_ntd)

    def embed(self, tokens: TokenBatch) -> Tensor:
        value_ntd, identity_ntd = self.embed_parts(tokens)
        return self.embedding_norm(value_ntd + identity_ntd)

    def read(self, embeddings_ntd: Tensor, mask_nt: Tensor, category: str) -> Tensor:
        case_v = torch.zeros(VOCABULARY.n_values, dtype=embeddings_ntd.dtype)
        case_v[CASE] = 1
        return self.body(embeddings_ntd, mask_nt) * case_v


class OfSum(nn.Module):
    """f of the sum of the tokens that are there."""

    def __init__(self, *steps: nn.Module) -> None:
        super().__init__()
        self.steps = nn.Sequential(*steps)

    def forward(self, x_ntd: Tensor, mask_nt: Tensor) -> Tensor:
        return self.steps((x_ntd * mask_nt[..., None]).sum(dim=1))


class Mean(nn.Module):
    """Attention without a preference: the mean of 3 x₀ - x₁ over the tokens that are there."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.core = weights(3, -1), AttentionCore()

    def forward(self, x_ntd: Tensor, mask_nt: Tensor) -> Tensor:
        v_n1t1 = self.value(x_ntd)[:, None]
        zero = torch.zeros_like(v_n1t1)
        return self.core(zero[:, :, :1], zero, v_n1t1, mask_nt)[:, 0, 0]


class Squares(nn.Module):
    def forward(self, x_nd: Tensor) -> Tensor:
        return x_nd[:, :1] ** 2 + x_nd[:, 1:2] ** 2


class Product(nn.Module):
    def forward(self, x_nd: Tensor) -> Tensor:
        return x_nd[:, :1] * x_nd[:, 1:2]


def weights(first: float, second: float, bias: float = 0) -> nn.Linear:
    linear = nn.Linear(N_GENES, 1)
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[0, :2] = torch.tensor([first, second])
        linear.bias.fill_(bias)
    return linear


@dataclass(frozen=True)
class Case:
    """A toy, its pair, and the two scores of every method in the forward direction.

    `within` is the tolerance of methods that sample a path that is not smooth or not short;
    `refused` are methods without a rule for the toy.
    """

    body: Callable[[], nn.Module]
    scores: dict[str, Pair]
    one: Bins
    other: Bins
    within: dict[str, float]
    refused: tuple[str, ...] = ()


def case(
    body: Callable[[], nn.Module],
    *groups: tuple[str, Pair],
    one: Bins | None = None,
    other: Bins | None = None,
    within: dict[str, float] | None = None,
    refused: tuple[str, ...] = (),
) -> Case:
    scores = {name: pair for names, pair in groups for name in names.split()}
    return Case(body, scores, one or {0: 4, 1: 1}, other or {0: 1, 1: 3}, within or {}, refused)


LOCAL = "grad_x_delta gim captum_deeplift"
ALONG = "integrated_gradients captum_integrated_gradients"
CASES = {
    # f = 3 x₀ - x₁: every difference method gives w ⊙ d, those without a baseline w ⊙ x.
    "linear": case(
        lambda: OfSum(weights(3, -1)),
        (f"deeplift {LOCAL} {ALONG} gradient_shap swap_occlusion", (9, 2)),
        ("input_x_gradient remove_occlusion", (12, -1)),
    ),
    # f = x₀² + x₁² is 17 and 10. Gradients 2 x; the path gives x_I² - x_B².
    "quadratic": case(
        lambda: OfSum(Squares()),
        (LOCAL, (24, -4)),
        (f"{ALONG} gradient_shap swap_occlusion", (15, -8)),
        ("input_x_gradient", (32, 2)),
        ("remove_occlusion", (16, 1)),
        refused=("deeplift",),
    ),
    # f = x₀ x₁ is 4 and 3. On the path the other factor is 2 and 2.5 in the mean.
    "product": case(
        lambda: OfSum(Product()),
        (LOCAL, (3, -8)),
        (f"{ALONG} gradient_shap", (6, -5)),
        ("swap_occlusion", (3, -8)),
        ("input_x_gradient remove_occlusion", (4, 4)),
        refused=("deeplift",),
    ),
    # f = relu(2 x₀ - 3 x₁), from -7 to 5: the rule is 5 / 12, and so is the path's share above 0.
    # Captum hooks ReLU, so its DeepLIFT is the same. No single swap leaves f above 0.
    "relu": case(
        lambda: OfSum(weights(2, -3), nn.ReLU()),
        ("deeplift captum_deeplift", (2.5, 2.5)),
        (f"{ALONG} gradient_shap", (2.5, 2.5)),
        ("grad_x_delta gim", (6, 6)),
        ("swap_occlusion", (5, 5)),
        ("input_x_gradient", (8, -3)),
        ("remove_occlusion", (5, -3)),
        within={
            "integrated_gradients": 0.3,
            "captum_integrated_gradients": 0.1,
            "gradient_shap": 1.0,
        },
    ),
    # f = tanh(x₀ - 1), from tanh 0 to tanh 3: the gradient at the input sees 3 % of the rise.
    "tanh": case(
        lambda: OfSum(weights(1, 0, -1), nn.Tanh()),
        ("grad_x_delta gim", (3 * (1 - tanh(3) ** 2), 0)),
        (f"{ALONG} gradient_shap captum_deeplift swap_occlusion", (tanh(3), 0)),
        ("input_x_gradient", (4 * (1 - tanh(3) ** 2), 0)),
        ("remove_occlusion", (tanh(3) - tanh(-1), 0)),
        within={"gradient_shap": 0.2},
        refused=("deeplift",),
    ),
    # f = x₀ / |x| at (3, 4) and (4, 3): 0.6 and 0.8. By the rules of spec 0 §3, with r = 1/|x|:
    # both r are 1/5, so m_r = (3 + 4) / 2, m of |x|² = -(1/625) / (2/5) m_r, m of each x 7 times
    # that, and x₀ has 1/5 besides. `gim` holds |x| constant. On the path x₀ + x₁ = 7, which makes
    # its integral of x₁² / |x|³ an inverse hyperbolic sine.
    "direction": case(
        lambda: OfSum(UnitNorm(), weights(1, 0)),
        ("deeplift", (-0.2 + 3.5 * 7 / 250, -3.5 * 7 / 250)),
        ("grad_x_delta captum_deeplift", (-16 / 125, -12 / 125)),
        ("gim", (-1 / 5, 0)),
        (f"{ALONG} gradient_shap", (-asinh(1 / 7) / sqrt(2), asinh(1 / 7) / sqrt(2) - 0.2)),
        ("swap_occlusion", (0.6 - sqrt(0.5), 0.6 - sqrt(0.5))),
        ("input_x_gradient", (48 / 125, -48 / 125)),
        ("remove_occlusion", (0.6, -0.4)),
        one={0: 3, 1: 4},
        other={0: 4, 1: 3},
        within={"gradient_shap": 1e-3},
    ),
    # The input has only gene 0, in bin 4, and the baseline only gene 1, in bin 3; with [CLS], two
    # phenotypes and [EOS] they attend to five tokens, so f is 12/5 and -3/5.
    # Complete DeepLIFT: embedding 12 · ½ · 1/5 and 3 · ½ · 1/5, and the same again as presence.
    # Path, at a share s of it: f = (12 s² - 3 (1 - s)²) / 5, in the mean 3/5; embedding as above,
    # presence ∫ (12 s - f) / 5 = 1.08 and -∫ (-3 (1 - s) - f) / 5 = 0.42.
    # With the input's mask alone (Captum) gene 1 never shows. Swapping gene 1 in leaves 9/6.
    "attention": case(
        Mean,
        ("deeplift", (2.4, 0.6)),
        ("integrated_gradients gradient_shap", (2.28, 0.72)),
        ("grad_x_delta captum_deeplift captum_integrated_gradients", (2.4, 0)),
        ("gim", (1.2, 0)),
        ("input_x_gradient remove_occlusion", (2.4, 0)),
        ("swap_occlusion", (2.4, 0.9)),
        one={0: 4},
        other={1: 3},
        within={"gradient_shap": 0.3},
    ),
}
#: Captum keeps its nodes in float32.
ROUNDED = {"captum_integrated_gradients": 1e-6}
EACH = [(toy, name) for toy, c in CASES.items() for name in c.scores if name in METHODS]


def toy_of(body: nn.Module) -> PhenotypeGeneTransformer:
    return Toy(body).double()  # type: ignore[return-value]


def attributed(name: str, toy: str, **parameters: Any) -> Attribution:
    c = CASES[toy]
    labels = torch.tensor([[FEMALE, CASE], [FEMALE, CONTROL]])
    members = (c.one, c.other)
    cells = cells_of([list(m) for m in members], [list(m.values()) for m in members], labels)
    pair = blend(cells, torch.tensor([0]), torch.tensor([1]))
    return build_method(name, **parameters).attribute(toy_of(c.body()), pair, MARGIN)


def of_genes(result: Attribution, scores_pt: Tensor) -> list[float]:
    """The scores of genes 0 and 1."""
    genes_t, scores_t = result.gene_ids_pt[0], scores_pt[0]
    return [float(scores_t[genes_t == gene].sum()) for gene in (0, 1)]


@pytest.mark.parametrize(("toy", "name"), EACH)
def test_scores_by_hand(toy: str, name: str) -> None:
    result = attributed(name, toy)
    # Both cells are of one sex, so other tokens differ in nothing; but one less leaves 12 / 4.
    sex = -0.6 if (toy, name) == ("attention", "remove_occlusion") else 0.0
    others = result.forward.scores_pt[result.gene_ids_pt < 0].tolist()
    assert others == pytest.approx([0, sex, 0, 0], abs=1e-12)
    within = CASES[toy].within.get(name, ROUNDED.get(name, 1e-9))
    expected = pytest.approx(CASES[toy].scores[name], rel=0, abs=within)
    assert of_genes(result, result.forward.scores_pt) == expected


@pytest.mark.parametrize("toy", CASES)
def test_f_by_hand(toy: str) -> None:
    f = {
        "linear": (11, 0),
        "quadratic": (17, 10),
        "product": (4, 3),
        "relu": (5, 0),
        "tanh": (tanh(3), 0),
        "direction": (0.6, 0.8),
        "attention": (2.4, -0.6),
    }
    result = attributed("random", toy)
    for found, expected in zip((result.forward, result.backward), (1, -1), strict=True):
        pair = float(found.f_input_p), float(found.f_baseline_p)
        assert pair == pytest.approx(f[toy][::expected])


@pytest.mark.parametrize(
    ("toy", "name"), [(toy, name) for toy, c in CASES.items() for name in c.refused]
)
def test_a_step_without_a_rule_is_refused(toy: str, name: str) -> None:
    with pytest.raises(AttributionError, match="no rule for"):
        attributed(name, toy)


@pytest.mark.parametrize("toy", CASES)
def test_every_method_is_worked_out_or_refused(toy: str) -> None:
    """A new method joins here, but for the control, which has no formula."""
    assert set(METHODS) - {"random"} <= {*CASES[toy].scores, *CASES[toy].refused}


@pytest.mark.parametrize("toy", ["linear", "quadratic", "product"])
def test_the_contrast_of_gradients_is_the_path_on_quadratics(toy: str) -> None:
    """(F - R) / 2 is the trapezoid rule; (F + R) / 2 is pure curvature (spec 0 §2)."""
    result = attributed("grad_x_delta", toy)
    forward, backward = result.forward.scores_pt, result.backward.scores_pt
    path = CASES[toy].scores["integrated_gradients"]
    assert of_genes(result, (forward - backward) / 2) == pytest.approx(path)
    curvature = {"linear": (0, 0), "quadratic": (9, 4), "product": (-3, -3)}
    assert of_genes(result, (forward + backward) / 2) == pytest.approx(curvature[toy])


@pytest.mark.parametrize(
    ("name", "embedding", "presence"),
    [
        ("deeplift", (1.2, 0.3), (1.2, 0.3)),
        ("integrated_gradients", (1.2, 0.3), (1.08, 0.42)),
        ("swap_occlusion", (0, 0), (2.4, 0.9)),
        ("remove_occlusion", (0, 0), (2.4, 0)),
    ],
)
def test_presence_by_hand(name: str, embedding: Pair, presence: Pair) -> None:
    if name not in METHODS:
        pytest.skip(f"{name} is not registered")
    result = attributed(name, "attention")
    assert of_genes(result, result.forward.embedding_pt) == pytest.approx(embedding)
    assert result.forward.presence_pt is not None
    assert of_genes(result, result.forward.presence_pt) == pytest.approx(presence)
