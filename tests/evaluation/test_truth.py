"""Rankings against planted genes, with answers that can be counted on the fingers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.cells import PlantedGenes
from gradgene.errors import CellsError
from gradgene.evaluation.truth import judge_ranking, ranks_of_pairs
from gradgene.pruning import GeneRanking

ROLES = {
    "u": "main_up",
    "d": "main_down",
    "a0": "xor",
    "b0": "xor",
    "a1": "xor",
    "b1": "xor",
    "c": "copy",
    **{f"on{i}": "decoy" for i in range(4)},
    "bt": "batch",
    "am": "ambient",
    "n0": "null",
    "n1": "null",
}
PAIRS = (("a0", "b0"), ("a1", "b1"))
PLANTED = PlantedGenes(ROLES, PAIRS)
ALL, FIRST, NONE = frozenset(PAIRS), frozenset(PAIRS[:1]), frozenset[tuple[str, str]]()


def order(*best: str) -> GeneRanking:
    """A ranking that begins with these genes and goes on in the order of `ROLES`."""
    genes = [*best, *(gene for gene in ROLES if gene not in best)]
    panel = tuple(sorted(ROLES))
    return GeneRanking("x", panel, np.array([-genes.index(gene) for gene in panel], float))


def test_the_truth_itself_is_perfect() -> None:
    found = judge_ranking(order("u", "a0", "a1", "d", "b0", "b1"), PLANTED, ALL)
    assert found["auprc"] == found["auprc_all"] == found["recall"] == found["xor_recall"] == 1
    assert found["xor_rank"] == 4.0  # of ranks 2, 3, 5 and 6
    assert found["chance"] == 6 / 14
    # The seventh place is the copy's, then three decoys.
    assert (found["copies_top10"], found["decoys_top10"], found["batch_top10"]) == (1, 3, 0)


@pytest.mark.parametrize("chosen", [ALL, NONE])
def test_chance_is_the_mean_of_random_orders(chosen: frozenset[tuple[str, str]]) -> None:
    rng, panel = np.random.default_rng(0), tuple(sorted(ROLES))
    found = [
        judge_ranking(GeneRanking("x", panel, rng.random(len(panel))), PLANTED, chosen)
        for _ in range(400)
    ]
    auprc = np.array([f["auprc"] for f in found])
    chance, recall = found[0]["chance_auprc"], np.mean([f["recall"] for f in found])
    assert chance == pytest.approx(auprc.mean(), abs=4 * auprc.std() / 20)
    assert recall == pytest.approx(found[0]["chance"], abs=0.05)
    assert chance > found[0]["chance"], "a random order is better than none"


def test_average_precision_by_hand() -> None:
    found = judge_ranking(order("on0", "u", "n0", "d"), PLANTED, NONE)
    # Judged are the mains among 10 genes; found at places 2 and 4.
    assert found["auprc"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert found["recall"] == 1 / 2 and found["chance"] == 2 / 10
    assert np.isnan(found["xor_recall"]) and np.isnan(found["xor_rank"])


def test_what_the_model_has_not_learnt_is_left_out_but_for_auprc_all() -> None:
    worst = order("u", "d", "a0", "b0", *(g for g, r in ROLES.items() if r not in ("xor", "copy")))
    found = judge_ranking(worst, PLANTED, FIRST)
    assert found["auprc"] == found["xor_recall"] == found["recall"] == 1
    everything = (4 + 5 / 13 + 6 / 14) / 6
    assert found["auprc_all"] == pytest.approx(everything)
    assert judge_ranking(worst, PLANTED, ALL)["auprc"] == pytest.approx(everything)


def test_a_copy_is_neither_right_nor_wrong() -> None:
    behind, before = order("u", "d"), order("c", "u", "d")
    one, other = (judge_ranking(ranking, PLANTED, NONE) for ranking in (behind, before))
    assert one["auprc"] == other["auprc"] == 1
    assert (one["recall"], other["recall"]) == (1, 1)


def test_equal_scores_are_one_step_whatever_the_names() -> None:
    panel = tuple(sorted(ROLES))
    flat = GeneRanking("x", panel, np.zeros(len(panel)))
    found = judge_ranking(flat, PLANTED, ALL)
    assert found["auprc"] == pytest.approx(found["chance"])


@given(st.permutations(sorted(ROLES)), st.sampled_from([ALL, FIRST, NONE]))
def test_figures_depend_on_the_order_alone(
    genes: list[str], learnt: frozenset[tuple[str, str]]
) -> None:
    ranking = order(*genes)
    found = judge_ranking(ranking, PLANTED, learnt)
    stretched = GeneRanking("x", ranking.genes, np.exp(ranking.scores_g * 3) * 1e6)
    assert judge_ranking(stretched, PLANTED, learnt) == pytest.approx(found, nan_ok=True)
    again = GeneRanking("x", tuple(genes), -np.arange(len(genes), dtype=float))
    assert judge_ranking(again, PLANTED, learnt) == pytest.approx(found, nan_ok=True)
    judged = [gene for gene in genes if gene in PLANTED.judged(learnt)]
    hits = np.array([gene in PLANTED.causal for gene in judged])
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    assert found["auprc"] == pytest.approx(precision[hits].mean(), abs=1e-6)


def test_ranks_of_both_genes_of_every_pair() -> None:
    ranks = ranks_of_pairs(order("n0", "b1", "a0"), PLANTED)
    assert list(ranks["pair"]) == ["a0+b0", "a0+b0", "a1+b1", "a1+b1"]
    # u and d come fourth and fifth.
    assert list(ranks["gene"]) == ["a0", "b0", "a1", "b1"]
    assert list(ranks["rank"]) == [3, 6, 7, 2]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(CellsError, match="no planted role"):
        judge_ranking(GeneRanking("x", ("u", "zz"), np.ones(2)), PLANTED, NONE)
    with pytest.raises(CellsError, match="lacks") as error:
        judge_ranking(GeneRanking("x", ("u", "n0"), np.ones(2)), PLANTED, NONE)
    assert "'a0'" in str(error.value)
    with pytest.raises(CellsError, match="differ"):
        PlantedGenes(ROLES, PAIRS[:1])
