"""Pairs pruned by their own scores: the paper's cut of the union, and what it leaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradgene.models import PhenotypeGeneTransformer
from gradgene.pruning import PruningSettings, predict, predict_pairs
from gradgene.pruning.per_pair import union_places
from gradgene.tokens import TokenBatch
from tests.planted import keep_genes
from tests.pruning.toys import GENES, one_gene_reader, telling_cells, telling_tokenizer

#: Pairs of cells of `tiny_tokens`: input rows, baseline rows.
INPUTS, BASELINES = [0, 3, 5, 3], [1, 2, 7, 8]


def members(tokens: TokenBatch) -> TokenBatch:
    return tokens.take(torch.tensor([*INPUTS, *BASELINES]))


def test_places_in_the_union_and_ties_in_panel_order() -> None:
    score_pg = np.array([[1.0, 3.0, 3.0, 9.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    union_pg = np.array([[True, True, True, False, True], [False, True, False, True, True]])
    place_pg = union_places(score_pg, union_pg)
    assert place_pg[0].tolist() == [2, 0, 1, 4, 3]  # gene 3 is in neither cell
    assert place_pg[1, [1, 3, 4]].tolist() == [0, 1, 2]


@pytest.mark.parametrize("order", ["lowest_first", "highest_first"])
def test_cuts_are_of_the_union(
    tiny_model: PhenotypeGeneTransformer, tiny_tokens: TokenBatch, order: str
) -> None:
    n_genes = len(tiny_model.vocabulary.genes)
    score_pg = np.random.default_rng(0).normal(size=(len(INPUTS), n_genes))
    settings = PruningSettings((0.0, 0.4, 0.9), order, batch_tokens=200)  # type: ignore[arg-type]
    both = members(tiny_tokens)
    found = predict_pairs(tiny_model, both, [score_pg, -score_pg], settings, "disease")
    assert found.shape == (1 + 2 * 3, 2 * len(INPUTS), 2)
    for pair in range(len(INPUTS)):
        rows = [pair, len(INPUTS) + pair]
        genes = both.take(torch.tensor(rows)).gene_ids_nt
        union = np.unique(genes[genes >= 0].numpy())
        for r, sign in enumerate((1, -1)):
            best_first = union[np.argsort(-sign * score_pg[pair, union])]
            for k, ratio in enumerate((0.0, 0.4, 0.9)):
                n = round((1 - ratio) * len(union))
                kept = best_first[:n] if order == "lowest_first" else best_first[len(union) - n :]
                keep_g = torch.zeros(n_genes, dtype=torch.bool)
                keep_g[kept] = True
                alone = keep_genes(both.take(torch.tensor(rows)), keep_g)
                expected = predict(tiny_model, alone, "disease", 10**6).probabilities_nc
                np.testing.assert_allclose(found[1 + 3 * r + k, rows], expected, atol=1e-6)
    whole = predict(tiny_model, both, "disease", 10**6).probabilities_nc
    np.testing.assert_allclose(found[0], whole, atol=1e-6)


def test_without_rankings_only_whole_cells(
    tiny_model: PhenotypeGeneTransformer, tiny_tokens: TokenBatch
) -> None:
    settings = PruningSettings((0.5,))
    found = predict_pairs(tiny_model, members(tiny_tokens), [], settings, "disease")
    assert found.shape == (1, 2 * len(INPUTS), 2)


def test_the_cut_removes_the_gene_from_both_cells() -> None:
    cells = telling_cells()
    tokenizer = telling_tokenizer(cells)
    model, tokens = one_gene_reader(tokenizer.vocabulary), tokenizer.encode(cells)
    pairs = tokens.take(torch.tensor([0, 2, 1, 3]))  # cases, then controls
    score_pg = np.zeros((2, len(GENES)))
    score_pg[0, 0], score_pg[1, 0] = 1.0, -1.0  # the gene that tells is best, and worst
    grid = PruningSettings((0.5,), "lowest_first")
    found = predict_pairs(model, pairs, [score_pg], grid, "disease")
    says_case = found[:, :, 0] > 0.5
    assert says_case.tolist() == [[True, True, False, False], [True, False, False, False]]
