"""What a method explains under each baseline, against the definition worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gradgene.attribution import METHODS, Attribution, Target, build_method
from gradgene.cells import Cells, log_normalise
from gradgene.errors import AttributionError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import MeanBaseline, PairSampler, ZeroBaseline, blend
from gradgene.tokens import TokenBatch, Tokenizer, mask_category
from tests.attribution.toys import MARGIN, blended_pairs, random_model

ZERO = ZeroBaseline()


def f_blank(model: PhenotypeGeneTransformer, member: TokenBatch, asked: Target) -> Tensor:
    """f (pairs,) of cells with the embedding of every gene zero, one after the other."""
    masked, _ = mask_category(member, model.vocabulary, asked.category)
    bound = asked.bind(model.vocabulary)
    values = []
    with torch.no_grad():
        for i in range(len(member)):
            cell = masked.take(torch.tensor([i])).compact()
            x_1td = model.embed(cell).clone()
            x_1td[cell.gene_ids_nt >= 0] = 0
            values.append(bound.read(model.read(x_1td, cell.attention_mask_nt, asked.category)))
    return torch.cat(values)


def test_zero_is_read_with_blank_genes_that_are_attended_to() -> None:
    model, blended = random_model().eval(), blended_pairs(6)
    found = build_method("deeplift").attribute(model, blended, MARGIN, ZERO)
    expected = f_blank(model, blended.input, MARGIN)
    torch.testing.assert_close(found.forward.f_baseline_p, expected)
    # Backward is the other cell for its own label.
    expected = f_blank(model, blended.baseline, MARGIN.mirrored())
    torch.testing.assert_close(found.backward.f_baseline_p, expected)
    for way in (found.forward, found.backward):
        assert float(way.relative_delta_p.max()) < 1e-10
        assert way.presence_pt is not None and not way.presence_pt.any()


@pytest.mark.parametrize(
    "name", [n for n, m in METHODS.items() if m.needs_baseline and not m.needs_tokens]
)
def test_only_a_cells_own_genes_score_against_zero(name: str) -> None:
    blended = blended_pairs(6)
    found = build_method(name).attribute(random_model(), blended, MARGIN, ZERO)
    for way, member in ((found.forward, blended.input), (found.backward, blended.baseline)):
        own_pt = member.gene_ids_nt >= 0
        assert not way.scores_pt[~own_pt].any()
        assert way.scores_pt[own_pt].any()


def scores(found: Attribution) -> tuple[Tensor, Tensor]:
    """Both ways."""
    return found.forward.scores_pt, found.backward.scores_pt


def test_a_gradient_against_zero_is_a_gradient_times_the_input() -> None:
    model, blended = random_model(), blended_pairs(6)
    difference = build_method("grad_x_delta").attribute(model, blended, MARGIN, ZERO)
    product = build_method("input_x_gradient").attribute(model, blended, MARGIN, ZERO)
    is_gene_pt = blended.gene_ids_pt >= 0
    for one, other in zip(scores(difference), scores(product), strict=True):
        torch.testing.assert_close(one[is_gene_pt], other[is_gene_pt], atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.needs_tokens])
def test_what_hands_tokens_on_refuses_zero(name: str) -> None:
    with pytest.raises(AttributionError, match=f"{name} embeds .*baseline=zero"):
        build_method(name).attribute(random_model(), blended_pairs(2), MARGIN, ZERO)


@pytest.mark.parametrize("name", ["deeplift", "grad_x_delta"])
def test_mean_is_the_averaged_cell_as_a_matched_one(
    name: str, tiny_cells: Cells, tiny_tokenizer: Tokenizer, tiny_model: PhenotypeGeneTransformer
) -> None:
    prepared = log_normalise(tiny_cells)
    plan = PairSampler("disease", "case", "control", ("sex",), max_pairs=5).sample(prepared)
    cells, plan = MeanBaseline().arrange(prepared, plan)
    tokens = tiny_tokenizer.encode(cells)
    blended = blend(tokens, *map(torch.tensor, (plan.input_rows, plan.baseline_rows)))
    target, method = Target("disease", "case", "control"), build_method(name)
    found = method.attribute(tiny_model, blended, target, MeanBaseline())
    matched = method.attribute(tiny_model, blended, target)
    assert (found.baseline, matched.baseline) == ("mean", "cell_state")
    for one, other in zip(scores(found), scores(matched), strict=True):
        assert torch.equal(one, other)
    averaged = cells.take(plan.baseline_rows)
    masked, _ = mask_category(tiny_tokenizer(averaged), tiny_model.vocabulary, "disease")
    with torch.no_grad():
        logits = tiny_model(masked).logits_ntv[:, tiny_model.vocabulary.slot("disease")]
    expected = target.bind(tiny_model.vocabulary).read(logits)
    torch.testing.assert_close(found.forward.f_baseline_p, expected)
