"""Which ranking finds the genes that were planted in synthetic cells?

A gene that the model has not learnt is no fault of a ranking: planted pairs without a marginal
signal that the model did not learn are left out, for every ranking of that model alike.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torchmetrics.functional.classification import binary_average_precision

from gradgene.cells import PlantedGenes
from gradgene.errors import CellsError
from gradgene.pruning import GeneRanking

__all__ = [
    "TOP",
    "judge_ranking",
    "ranks_of_pairs",
]

#: Genes that a reader of a report looks at first.
TOP = 10
#: Word -> role of genes that are counted among the best.
COUNTED = {"decoys": "decoy", "batch": "batch", "ambient": "ambient", "copies": "copy"}

Pair = tuple[str, str]


def judge_ranking(
    ranking: GeneRanking, planted: PlantedGenes, learnt: frozenset[Pair]
) -> dict[str, float]:
    """Hold a ranking of the whole panel against the planted genes.

    Parameters
    ----------
    ranking
        Higher scores are more important, as the ranking itself defines it.
    planted
        What the genes are; genes of the panel that it does not name are an error.
    learnt
        Those of `planted.xor_pairs` that the model has learnt.

    Returns
    -------
    dict
        `auprc`: average precision (the area under the precision-recall curve as a sum of steps;
        scores that are equal are one step) of causal genes over the judged ones
        (`PlantedGenes.judged`); `auprc_all`: over all but copies, unlearnt pairs among the
        causal; `chance`: the share of causal genes among the judged, the mean recall of random
        orders; `chance_auprc`: their mean auprc; `recall`: share of the judged causal genes among
        as many best of the judged; `xor_recall`: share of the learnt pairs' genes there (NaN
        without one); `xor_rank`: their median rank among the judged (1 is best; NaN without one);
        `decoys_top10`, `batch_top10`, `ambient_top10`, `copies_top10`: genes of these roles among
        the ten best of the panel.

    Raises
    ------
    CellsError
        If a gene of the panel has no role, or a causal gene is not in the panel.
    """
    unknown = [gene for gene in ranking.genes if gene not in planted.roles]
    if unknown:
        raise CellsError(f"{len(unknown)} genes have no planted role", found=unknown[0])
    judged, causal = planted.judged(learnt), planted.causal
    absent = causal.difference(ranking.genes)
    if absent:
        raise CellsError(f"the panel lacks {len(absent)} planted genes", found=repr(min(absent)))
    best = [gene for gene in ranking.top(len(ranking.genes)) if gene in judged]
    n_causal = len(causal & judged)
    found = set(best[:n_causal])
    learnt_genes = [gene for pair in sorted(learnt) for gene in pair]
    ranks = [best.index(gene) + 1 for gene in learnt_genes]
    first = ranking.top(TOP)
    others = frozenset(planted.roles) - planted.neutral
    return {
        "auprc": _average_precision(ranking, causal, judged),
        "auprc_all": _average_precision(ranking, causal, others),
        "chance": n_causal / len(best),
        "chance_auprc": _chance_auprc(len(best), n_causal),
        "recall": len(found & causal) / n_causal,
        "xor_recall": float(np.mean([g in found for g in learnt_genes])) if ranks else np.nan,
        "xor_rank": float(np.median(ranks)) if ranks else np.nan,
        **{
            f"{name}_top{TOP}": float(sum(planted.roles[gene] == role for gene in first))
            for name, role in COUNTED.items()
        },
    }


def ranks_of_pairs(ranking: GeneRanking, planted: PlantedGenes) -> pd.DataFrame:
    """Rank of both genes of every planted pair among all genes: `pair, gene, rank`, 1 is best."""
    rank = {gene: i + 1 for i, gene in enumerate(ranking.top(len(ranking.genes)))}
    rows = [("+".join(pair), gene, rank[gene]) for pair in planted.xor_pairs for gene in pair]
    return pd.DataFrame(rows, columns=["pair", "gene", "rank"])


def _chance_auprc(n: int, r: int) -> float:
    """Mean average precision of random orders of n genes of which r are causal.

    A causal gene at place k has (r - 1) (k - 1) / (n - 1) others before it on average; the mean of
    (that + 1) / k over all places k.
    """
    if n < 2:
        return 1.0
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    return ((r - 1) / (n - 1) * (n - harmonic) + harmonic) / n


def _average_precision(
    ranking: GeneRanking, causal: frozenset[str], judged: frozenset[str]
) -> float:
    """Average precision of the causal genes over the judged ones."""
    at = [i for i, gene in enumerate(ranking.genes) if gene in judged]
    truth = torch.tensor([ranking.genes[i] in causal for i in at])
    # As shares of the panel: torchmetrics takes what is outside 0 to 1 for logits.
    share = rankdata(ranking.scores_g[at]) / len(at)
    return float(binary_average_precision(torch.from_numpy(share), truth.long()))
