"""Complete DeepLIFT on everything a model can be made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from gradgene.attribution import DeepLift, GradXDelta, Target
from gradgene.errors import AttributionError
from gradgene.pairs import BlendedBatch
from gradgene.tokens import Layout, TokenIds, Tokenizer, Vocabulary
from tests.attribution.toys import KINDS, MARGIN, blended_pairs, one_way, random_model, target
from tests.planted import PHENOTYPES, VARIANTS, make_cells, make_model, make_pairs

METHOD = DeepLift()
ALL = pytest.mark.parametrize("size", VARIANTS.values(), ids=VARIANTS)


def with_unattended_genes(blended: BlendedBatch, seed: int = 0) -> BlendedBatch:
    """Genes at random, a quarter of each member, that are there and not attended to."""
    draw = torch.Generator().manual_seed(seed)
    members: dict[str, Any] = {}
    for name in ("input", "baseline"):
        tokens = getattr(blended, name)
        off_pt = (torch.rand(blended.gene_ids_pt.shape, generator=draw) < 0.25) & (
            blended.gene_ids_pt >= 0
        )
        members[name] = replace(tokens, attention_mask_nt=tokens.attention_mask_nt & ~off_pt)
    return replace(blended, **members)


def readings(size: dict[str, Any]) -> list[Target]:
    """Every scalar that can be asked of such a model."""
    asked = [target(kind) for kind in KINDS]
    if size.get("classifier") is None:
        asked += [target(kind, "all") for kind in KINDS[2:]]
    return asked


#: Two layers of everything; one and three where the first and the last layer are read differently.
DEPTHS = [
    *(pytest.param(size, 2, id=f"2-{name}") for name, size in VARIANTS.items()),
    *(
        pytest.param(VARIANTS[name], n, id=f"{n}-{name}")
        for n in (1, 3)
        for name in ("ours", "pre-norm-rms-silu", "tied-sphere", "classifier-alone")
    ),
]


@pytest.mark.parametrize(("size", "n_layers"), DEPTHS)
def test_is_complete_in_float64(size: dict[str, Any], n_layers: int) -> None:
    model, blended = random_model(1, n_layers=n_layers, **size), blended_pairs(40, 2)
    for asked in readings(size):
        scores = one_way(METHOD, model, blended, asked)
        assert scores.relative_delta_p.max() <= 1e-9, asked


@ALL
@pytest.mark.parametrize("blank", [False, True], ids=["cell-state", "zero"])
def test_value_and_identity_make_up_the_difference(size: dict[str, Any], blank: bool) -> None:
    """With a value of zero the identity stays, so that the value alone makes it up."""
    model, blended = random_model(1, **size), blended_pairs(40, 2)
    value, identity = (
        one_way(DeepLift(layer), model, blended.with_blank_genes() if blank else blended)
        for layer in ("value", "identity")
    )
    both = value if blank else replace(value, scores_pt=value.scores_pt + identity.scores_pt)
    assert both.relative_delta_p.max() <= 1e-9


@ALL
def test_is_complete_against_zero_embeddings(size: dict[str, Any]) -> None:
    """With an epsilon as pre-norm models have it: a norm of a zero vector multiplies by 1/√ε."""
    model = random_model(1, layer_norm_eps=1e-5, **size)
    scores = one_way(METHOD, model, blended_pairs(40, 2).with_blank_genes())
    assert scores.relative_delta_p.max() <= 1e-9


@ALL
def test_is_complete_in_float32(size: dict[str, Any]) -> None:
    model, blended = random_model(1, torch.float32, **size), blended_pairs(40, 2)
    scores = one_way(METHOD, model, blended)
    risen_p = (scores.f_input_p - scores.f_baseline_p).abs()
    assert scores.relative_delta_p[risen_p > 0.05].max() <= 1e-4


@ALL
def test_is_complete_where_genes_are_there_and_not_attended_to(size: dict[str, Any]) -> None:
    """The published BERT keeps the positions of genes that are not expressed."""
    model, blended = random_model(1, **size).eval(), with_unattended_genes(blended_pairs(40, 2))
    bound = MARGIN.bind(model.vocabulary)
    scores = METHOD.one_way(model, blended, bound)
    assert scores.relative_delta_p.max() <= 1e-9
    members = blended.input, blended.baseline
    with torch.no_grad():
        f_i, f_b = (
            bound.read(model.read(model.embed(m), m.attention_mask_nt, "disease")) for m in members
        )
    torch.testing.assert_close(scores.scores_pt.sum(dim=1), f_i - f_b, rtol=1e-9, atol=1e-9)
    neither_pt = ~members[0].attention_mask_nt & ~members[1].attention_mask_nt
    assert bool((neither_pt & (blended.gene_ids_pt >= 0)).any())
    assert not scores.scores_pt[neither_pt].any()


@ALL
def test_swapping_negates_and_a_cell_against_itself_scores_zero(size: dict[str, Any]) -> None:
    model, blended = random_model(3, **size), blended_pairs(20, 4)
    forward = one_way(METHOD, model, blended)
    backward = one_way(METHOD, model, blended.swap())
    scale = max(1.0, float(forward.scores_pt.abs().max()))
    torch.testing.assert_close(backward.scores_pt, -forward.scores_pt, rtol=0, atol=1e-12 * scale)
    itself = replace(
        blended,
        baseline_rows_p=blended.input_rows_p,
        baseline_columns_pt=blended.input_columns_pt,
        baseline=blended.input,
    )
    assert (one_way(METHOD, model, itself).scores_pt == 0).all()


@ALL
def test_a_gradient_is_not_complete_on_these_models(size: dict[str, Any]) -> None:
    """Otherwise the tests above would pass for any method."""
    scores = one_way(GradXDelta(), random_model(1, **size), blended_pairs(40, 2))
    assert scores.relative_delta_p.median() > 0.1


@ALL
def test_f_is_what_the_whole_model_says(size: dict[str, Any]) -> None:
    """Read from all positions of the compact cells, or by the classifier; the target is masked."""
    model, blended = random_model(1, **size), blended_pairs(10, 2)
    scores = one_way(METHOD, model, blended)
    cells = replace(blended.cells, input_ids_nt=blended.cells.input_ids_nt.clone())
    cells.input_ids_nt[:, 2] = 2  # [MASK] at the disease slot
    with torch.no_grad():
        model.eval()
        if model.classified == "disease":
            z_nc = model.classify(model.embed(cells), cells.attention_mask_nt)
            f_n = z_nc[:, 0] - z_nc[:, 1]
        else:
            z_nv = model(cells).logits_ntv[:, 2]
            f_n = z_nv[:, 4] - z_nv[:, 5]
    torch.testing.assert_close(scores.f_input_p, f_n[:10], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(scores.f_baseline_p, f_n[10:], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", [DeepLift(), GradXDelta()])
def test_a_classifier_knows_nothing_of_other_ids(method: DeepLift | GradXDelta) -> None:
    model, blended = random_model(1, classifier="disease"), blended_pairs(3)
    with pytest.raises(AttributionError, match=r"attribution\.vocabulary: .*'disease'.*classifier"):
        method.attribute(model, blended, target("probability", "all"))
    # Its other categories are read by the head over all ids.
    sex = Target("sex", "male", "female", "probability", "all")
    method.attribute(model, blended, sex)


@pytest.mark.parametrize("where", ["classifier.activation", "head_norm", "final_norm"])
def test_a_step_without_a_rule_is_named_wherever_it_is(where: str) -> None:
    model = random_model(1, classifier="disease", norm_first=True)
    model.set_submodule(where, nn.Tanh())
    with pytest.raises(AttributionError, match=f"no rule for Tanh.*{where}"):
        METHOD.attribute(model, blended_pairs(2), MARGIN)


@pytest.mark.parametrize("size", [{}, {"classifier": "disease"}], ids=["slot", "classifier"])
def test_identity_by_position(size: dict[str, Any]) -> None:
    """All genes in every sequence, those not expressed unattended: complete on tokenised cells."""
    cells = make_cells(n=20, n_genes=30)
    layout = Layout(cls=3, end=6, mask=1, pad=0, start=5, genes="all", identity="position")
    plain = Vocabulary.from_cells(cells, (0.1, 4.0, 6.0))
    vocabulary = replace(plain, phenotypes=PHENOTYPES, layout=layout, ids=spaced_ids(plain))
    tokenizer = Tokenizer(vocabulary, cells.schema)
    tokens = tokenizer(cells)
    assert bool((~tokens.attention_mask_nt).any())
    model = make_model(vocabulary, **size)
    asked = Target("disease", "case", "control")
    found = METHOD.attribute(model, make_pairs(cells, tokens), asked).forward
    assert found.relative_delta_p.max() <= 1e-9
    assert (found.f_input_p - found.f_baseline_p).abs().max() > 0.1


def spaced_ids(vocabulary: Vocabulary) -> TokenIds:
    """Label ids in another order and with gaps, as published vocabularies may have them."""
    free = iter(range(60, 20, -2))
    labels = {c: tuple(next(free) for _ in ls) for c, ls in vocabulary.categories.items()}
    return TokenIds(labels=labels, first_bin=61, n_values=61 + len(vocabulary.bin_edges) + 1)
