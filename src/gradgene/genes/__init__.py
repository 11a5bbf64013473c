"""Token scores in, a ranked gene table with its evidence out."""

from gradgene.genes.expression import expression_of_pairs
from gradgene.genes.importance import Importance, default_importance, l2_normalise
from gradgene.genes.ranking import rank_genes
from gradgene.genes.statistics import DonorInterval, benjamini_hochberg, donor_interval
from gradgene.genes.sums import GeneSums, GeneSumsMetric
from gradgene.genes.table import GeneTable, build_gene_table

__all__ = [
    "DonorInterval",
    "GeneSums",
    "GeneSumsMetric",
    "GeneTable",
    "Importance",
    "benjamini_hochberg",
    "build_gene_table",
    "default_importance",
    "donor_interval",
    "expression_of_pairs",
    "l2_normalise",
    "rank_genes",
]
