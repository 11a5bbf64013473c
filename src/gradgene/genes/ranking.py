"""From one batch of attributed pairs straight to a gene table, for notebooks."""

from __future__ import annotations

import torch

from gradgene.attribution import Attribution, Target
from gradgene.cells import Cells
from gradgene.genes.accumulating import GeneSumsMetric
from gradgene.genes.building import build_gene_table
from gradgene.genes.design import PairDesign
from gradgene.genes.expression import expression_of_pairs
from gradgene.genes.importance import Importance, default_importance
from gradgene.genes.table import GeneTable
from gradgene.pairs import BASELINES, PairPlan
from gradgene.tokens import Vocabulary

__all__ = ["rank_genes"]


def rank_genes(
    result: Attribution,
    target: Target,
    cells: Cells,
    plan: PairPlan,
    vocabulary: Vocabulary,
    importance: str | None = None,
    sign: str = "signed",
    *,
    n_null: int = 100,
    seed: int = 0,
) -> GeneTable:
    """Rank genes over the pairs of one attribution.

    Parameters
    ----------
    result, target
        Scores of every pair of `plan`, in its order, and the scalar they explain.
    cells, plan, vocabulary
        The prepared cells, the pairs drawn among them (both as the baseline arranged them), and
        the ids of the model.
    importance, sign
        Default: that of the method; ranked by signed score.
    n_null, seed
        How many times labels are exchanged at random for `p_null`, and the seed of it; with 0
        `p_null` is null.

    Raises
    ------
    AttributionError
        For an importance that is meaningless for the method and baseline.
    """
    name = importance or default_importance(result.method, result.baseline)
    chosen = Importance(name, result.method, result.baseline, target.kind)
    swaps = BASELINES[result.baseline].swaps
    threshold = vocabulary.bin_edges[0]
    sums = GeneSumsMetric(
        n_genes=len(vocabulary.genes),
        n_phenotypes=len(vocabulary.phenotypes),
        design=PairDesign.of(plan, cells, threshold, swaps=swaps),
        importances=Importance.meaningful(result.method, result.baseline, target.kind),
        sees_presence=result.forward.presence_pt is not None,
        main=name,
        n_null=n_null,
        seed=seed,
    ).to(result.gene_ids_pt.device)
    sums.update(result, torch.arange(len(plan)))
    return build_gene_table(
        sums.gene_sums(),
        expression_of_pairs(cells, plan, threshold),
        vocabulary.phenotypes,
        name,
        sign,
        _facts(result, target),
        n_donors_baseline=plan.n_donors_baseline if chosen.reads_baseline_cells else None,
    )


def _facts(result: Attribution, target: Target) -> dict[str, str | None]:
    """Constant columns: what the scores are; nothing is known of model, split and configuration."""
    return {
        "method": result.method,
        "baseline": result.baseline,
        "target": f"{target.category}: {target.label} against {target.against}",
        **dict.fromkeys(("model", "split", "seed", "config_hash")),
    }
