"""From one batch of attributed pairs straight to a gene table, for notebooks."""

from __future__ import annotations

import torch

from gradgene.attribution import Attribution, Target
from gradgene.cells import Cells
from gradgene.genes.expression import expression_of_pairs
from gradgene.genes.importance import Importance, default_importance
from gradgene.genes.sums import GeneSumsMetric
from gradgene.genes.table import GeneTable, build_gene_table
from gradgene.pairs import PairPlan
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

    Raises
    ------
    AttributionError
        For an importance that is meaningless for the method and baseline.
    """
    name = importance or default_importance(result.method, result.baseline)
    Importance(name, result.method, result.baseline, target.kind)
    sums = GeneSumsMetric(
        n_genes=len(vocabulary.genes),
        n_phenotypes=len(vocabulary.phenotypes),
        n_donors=int(plan.donors.max()) + 1,
        importances=Importance.meaningful(result.method, result.baseline, target.kind),
        sees_presence=result.forward.presence_pt is not None,
    ).to(result.gene_ids_pt.device)
    sums.update(result, torch.from_numpy(plan.donors).to(result.gene_ids_pt.device))
    facts = {
        "method": result.method,
        "baseline": result.baseline,
        "target": f"{target.category}: {target.label} against {target.against}",
        "model": None,
        "split": None,
        "seed": None,
        "config_hash": None,
    }
    expression = expression_of_pairs(cells, plan, vocabulary.bin_edges[0])
    return build_gene_table(sums.gene_sums(), expression, vocabulary.phenotypes, name, sign, facts)
