"""A model that meets new labels keeps everything it knew."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gradgene.errors import TokenError
from gradgene.models import PhenotypeGeneTransformer, grown
from gradgene.tokens import Layout, TokenBatch, TokenIds, Vocabulary
from tests.planted import make_cells, make_tokenizer


def listed(vocabulary: Vocabulary) -> Vocabulary:
    """The same ids, listed one by one as published vocabularies do."""
    labels = {c: tuple(vocabulary.label_ids(c)) for c in vocabulary.categories}
    return replace(vocabulary, ids=TokenIds(labels, vocabulary.bin_offset, vocabulary.n_values))


def model_and_tokens(
    by_list: bool = False, **size: object
) -> tuple[PhenotypeGeneTransformer, Vocabulary, TokenBatch]:
    torch.manual_seed(0)
    cells = make_cells()
    tokenizer = make_tokenizer(cells)
    if by_list:
        tokenizer = replace(tokenizer, vocabulary=listed(tokenizer.vocabulary))
    model = PhenotypeGeneTransformer(tokenizer.vocabulary, dim=16, n_heads=2, hidden_dim=32, **size)  # type: ignore[arg-type]
    return model.eval(), tokenizer.vocabulary, tokenizer.encode(tokenizer.prepare(cells))


def translated(tokens: TokenBatch, old: Vocabulary, new: Vocabulary) -> TokenBatch:
    """The same cells in the ids of the larger vocabulary, without a new category."""
    ids, types = tokens.input_ids_nt.clone(), tokens.token_type_ids_nt.clone()
    for category in old.categories:
        for a, b in zip(old.label_ids(category), new.label_ids(category), strict=False):
            ids[tokens.input_ids_nt == a] = b
        types[tokens.token_type_ids_nt == old.category_type(category)] = new.category_type(category)
    genes = tokens.gene_ids_nt >= 0
    ids[genes] += new.bin_offset - old.bin_offset
    types[genes] += new.gene_offset - old.gene_offset
    return replace(tokens, input_ids_nt=ids, token_type_ids_nt=types)


@pytest.mark.parametrize("by_list", [False, True])
@pytest.mark.parametrize(
    "size",
    [{}, {"head": "sphere"}, {"tied": True}, {"classifier": "disease"}, {"norm_first": True}],
)
def test_what_was_known_is_read_as_before(by_list: bool, size: dict[str, object]) -> None:
    model, old, tokens = model_and_tokens(by_list, **size)
    new = old.grown({"disease": ["relapsed", "case"], "cell_type": ["a new one"]})
    assert new.categories["disease"] == (*old.categories["disease"], "relapsed")
    larger = grown(model, new)
    assert not larger.training
    here = translated(tokens, old, new)
    embedded, again = model.embed(tokens), larger.embed(here)
    assert torch.equal(embedded, again)
    for category in old.phenotypes:
        before = model.read(embedded, tokens.attention_mask_nt, category)
        after = larger.read(again, here.attention_mask_nt, category)
        had = list(old.label_ids(category))
        torch.testing.assert_close(
            after[:, list(new.label_ids(category))[: len(had)]], before[:, had]
        )
    every = sorted(i for c in new.categories for i in new.label_ids(c))
    assert len(set(every)) == len(every) and max(every) < new.n_values


@pytest.mark.parametrize("by_list", [False, True])
def test_a_new_label_begins_as_the_mean_of_its_category(by_list: bool) -> None:
    model, old, _ = model_and_tokens(by_list)
    new = old.grown({"disease": ["relapsed"]})
    larger = grown(model, new)
    for name in ("value_embedding.weight", "head_projector.weight", "head_projector.bias"):
        mean = model.state_dict()[name][list(old.label_ids("disease"))].mean(dim=0)
        assert torch.equal(larger.state_dict()[name][new.label_id("disease", "relapsed")], mean)


def test_a_new_category_takes_the_last_slot() -> None:
    model, old, tokens = model_and_tokens()
    new = old.grown({"aaa": ["x", "y"]})  # in front of all others by name: every type moves
    assert new.phenotypes == (*old.phenotypes, "aaa") and new.slot("aaa") == old.n_header
    larger = grown(model, new)
    here = translated(tokens, old, new)
    assert torch.equal(larger.embed(here), model.embed(tokens))
    mean = model.identity_embedding.weight[1 : old.gene_offset].mean(dim=0)
    assert torch.equal(larger.identity_embedding.weight[new.category_type("aaa")], mean)


def test_nothing_new_is_the_same_model() -> None:
    model, old, _ = model_and_tokens()
    assert old.grown({"disease": ["case"]}) == old
    assert grown(model, old) is model


def test_ids_that_are_listed_have_no_room_for_a_category() -> None:
    _, old, _ = model_and_tokens(by_list=True)
    with pytest.raises(TokenError, match="no place for the category 'aaa'"):
        old.grown({"aaa": ["x"]})


@pytest.mark.parametrize(
    "other",
    [
        lambda v: replace(v, genes=v.genes[1:]),
        lambda v: replace(v, bin_edges=(0.1, 2.0)),
        lambda v: replace(v, layout=Layout(end=None)),
        lambda v: replace(v, categories={**v.categories, "disease": ("control", "case", "x")}),
        lambda v: replace(v, phenotypes=v.phenotypes[::-1]),
    ],
)
def test_another_vocabulary_is_refused(other) -> None:
    model, old, _ = model_and_tokens()
    with pytest.raises(TokenError, match="grown by labels and categories only"):
        grown(model, other(old))
