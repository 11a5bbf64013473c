"""The control: normal, independent of everything but the pair, and the same wherever it runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from gradgene.attribution import RandomScores
from gradgene.attribution.random_scores import _combined
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, blend
from tests.attribution.toys import (
    MARGIN,
    N_GENES,
    blended_pairs,
    cells_of,
    one_way,
    random_cells,
    random_model,
)

N_PAIRS = 3000
MODEL = random_model(0, n_layers=1)


def drawn(seed: int, blended: BlendedBatch) -> Tensor:
    return one_way(RandomScores(seed), MODEL, blended).scores_pt


@pytest.fixture(scope="module")
def many() -> BlendedBatch:
    return blended_pairs(N_PAIRS, 1)


def is_uncorrelated(one: Tensor, other: Tensor) -> bool:
    """Within four standard errors; the numbers are fixed, so this cannot fail by chance later."""
    return abs(np.corrcoef(one.numpy(), other.numpy())[0, 1]) < 4 / len(one) ** 0.5


def by_gene(blended: BlendedBatch, scores_pt: Tensor) -> Tensor:
    """(pairs, genes), NaN where neither member has the gene."""
    table_pg = torch.full((len(blended), N_GENES), torch.nan, dtype=scores_pt.dtype)
    pair, position = (blended.gene_ids_pt >= 0).nonzero(as_tuple=True)
    table_pg[pair, blended.gene_ids_pt[pair, position]] = scores_pt[pair, position]
    return table_pg


def test_two_numbers_are_hashed_in_their_order_and_without_collisions() -> None:
    """Every gene in every bin is another token, and a gene's number is not a bin's."""
    gene, value = torch.arange(-10, 3000)[:, None], torch.arange(-1, 60)
    hashes = _combined(gene.expand(-1, len(value)), value.expand(len(gene), -1))
    assert len(hashes.unique()) == hashes.numel()
    assert int(_combined(gene[12], value[9])) != int(_combined(value[9], gene[12]))


class TestDistribution:
    @pytest.mark.parametrize("seed", [0, 1, -5, 2**63 - 1])
    def test_is_standard_normal(self, seed: int, many: BlendedBatch) -> None:
        scores_pt = drawn(seed, many)
        x = scores_pt[scores_pt != 0].numpy()
        assert len(x) > 25_000
        assert abs(x.mean()) < 4 / len(x) ** 0.5
        assert abs(x.var() - 1) < 4 * (2 / len(x)) ** 0.5
        assert stats.kstest(x, "norm").pvalue > 1e-3
        assert len(np.unique(x)) > 0.999 * len(x)  # pairs drawn twice are the same pair

    def test_every_gene_and_phenotype_is_standard_normal(self, many: BlendedBatch) -> None:
        scores_pt = drawn(0, many)
        for x in (*by_gene(many, scores_pt).T, scores_pt[:, 1]):
            seen = x[~x.isnan()]
            assert abs(seen.mean()) < 4 / len(seen) ** 0.5
            assert abs(seen.var() - 1) < 5 * (2 / len(seen)) ** 0.5

    def test_seeds_and_directions_are_independent(self, many: BlendedBatch) -> None:
        forward, other, backward = drawn(0, many), drawn(1, many), drawn(0, many.swap())
        scored = forward != 0
        assert torch.equal(scored, other != 0)
        assert torch.equal(scored, backward != 0)
        for x in (other, backward):
            assert is_uncorrelated(forward[scored], x[scored])
            assert is_uncorrelated(forward[scored].abs(), x[scored].abs())
        assert is_uncorrelated((forward + backward)[scored], (forward - backward)[scored])

    def test_genes_and_pairs_are_independent(self, many: BlendedBatch) -> None:
        table_pg = by_gene(many, drawn(0, many))
        for i in range(N_GENES):
            for j in range(i):
                both = ~table_pg[:, i].isnan() & ~table_pg[:, j].isnan()
                assert is_uncorrelated(table_pg[both, i], table_pg[both, j])
        next_pg = table_pg.roll(1, dims=0)
        both_pg = ~table_pg.isnan() & ~next_pg.isnan()
        assert is_uncorrelated(table_pg[both_pg], next_pg[both_pg])

    def test_the_smallest_change_of_a_pair_draws_anew(self) -> None:
        """One gene in another bin, in either member: nothing of the first draw is left."""
        genes = list(range(N_GENES))
        bins = [[1 + (i >> k & 1) for k in range(N_GENES)] for i in range(1 << 8)]
        n = len(bins)
        cells = cells_of([genes] * n, bins, torch.tensor([[7, 4]] * n))
        one, row = torch.arange(0, n, 2), torch.zeros(n // 2, dtype=torch.int64)
        for pairs in (
            (blend(cells, one, row), blend(cells, one + 1, row)),
            (blend(cells, row, one), blend(cells, row, one + 1)),
        ):
            x, y = (by_gene(b, drawn(0, b)).flatten() for b in pairs)
            assert is_uncorrelated(x, y)


class TestIdentity:
    def test_equal_pairs_draw_equal_scores(self) -> None:
        cells = random_cells(4, 3)
        rows = torch.tensor([0, 0, 1])
        found = drawn(0, blend(cells, rows, torch.tensor([2, 2, 2])))
        assert torch.equal(found[0], found[1])
        assert not torch.equal(found[0], found[2])

    def test_a_pair_has_its_scores_wherever_it_runs(self) -> None:
        """To the last bit: alone, in other company, in another order, later, at any seed."""
        cells = random_cells(12, 2)
        whole_pt = drawn(0, blend(cells, torch.arange(6), torch.arange(6, 12)))
        for state, rows in enumerate(([0], [3], [5, 3, 0], [3, 3], [1, 0, 2, 4, 5, 3])):
            torch.manual_seed(state)
            row_p = torch.tensor(rows)
            found_pt = drawn(0, blend(cells, row_p, row_p + 6))
            n = found_pt.shape[1]
            assert torch.equal(found_pt, whole_pt[row_p, :n])
            assert (whole_pt[row_p, n:] == 0).all()

    def test_a_zero_baseline_is_another_pair_than_the_cell_itself(self) -> None:
        blended = blended_pairs(5, 3)
        itself = replace(blended.with_blank_genes(), blank_pt=None)
        one, other = drawn(0, blended.with_blank_genes()), drawn(0, itself)
        assert torch.equal(one != 0, other != 0)
        assert not bool(((one == other) & (one != 0)).any())

    def test_only_tokens_of_the_pair_are_scored(self) -> None:
        blended = blended_pairs(20, 3)
        found = drawn(0, blended)
        assert torch.equal(found[:, 3:] != 0, blended.gene_ids_pt[:, 3:] >= 0)
        assert (found[:, 1] != 0).all()
        assert (found[:, [0, 2]] == 0).all()

    def test_the_random_states_of_others_stay(self) -> None:
        torch.manual_seed(3)
        before = torch.get_rng_state()
        drawn(0, blended_pairs(5, 3))
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_less_precision_rounds_the_same_numbers(self, dtype: torch.dtype) -> None:
        model: PhenotypeGeneTransformer = random_model(0, dtype, n_layers=1)
        found = one_way(RandomScores(), model, blended_pairs(5, 3)).scores_pt
        assert torch.equal(found, drawn(0, blended_pairs(5, 3)).to(dtype))

    def test_f_is_what_the_model_says(self) -> None:
        blended = blended_pairs(5, 3)
        found = RandomScores().attribute(MODEL, blended, MARGIN)
        torch.testing.assert_close(found.forward.f_input_p, found.backward.f_baseline_p)
        assert (found.forward.f_input_p != found.forward.f_baseline_p).all()
        assert found.forward.presence_pt is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_says_the_same() -> None:
    blended = blended_pairs(50, 3)
    found = RandomScores().attribute(random_model().cuda(), blended.to("cuda"), MARGIN).to("cpu")
    # The integers are equal; the inverse of the normal distribution may round differently.
    torch.testing.assert_close(found.forward.scores_pt, drawn(0, blended), rtol=1e-12, atol=1e-12)
