"""Token scores in, a ranked gene table with its evidence out."""

from gradgene.genes.accumulating import GeneSumsMetric
from gradgene.genes.building import build_gene_table
from gradgene.genes.compare import TableComparison
from gradgene.genes.confounding import batch_share, depth_correlation, explained_share
from gradgene.genes.design import PairDesign
from gradgene.genes.enrichment import (
    ENRICHMENT_COLUMNS,
    enrich,
    require_gseapy,
    scored_genes,
)
from gradgene.genes.expression import expression_of_pairs
from gradgene.genes.flags import FLAGS, FlagRules
from gradgene.genes.foreign_tissues import ForeignTissues
from gradgene.genes.gene_sets import GeneSets
from gradgene.genes.importance import Importance, default_importance, l2_normalise
from gradgene.genes.pooling import DonorScores, pool_donors
from gradgene.genes.ranking import rank_genes
from gradgene.genes.statistics import (
    DonorInterval,
    benjamini_hochberg,
    donor_interval,
    mean_interval,
    null_p,
)
from gradgene.genes.sums import GeneSums
from gradgene.genes.table import GeneTable

__all__ = [
    "ENRICHMENT_COLUMNS",
    "FLAGS",
    "DonorInterval",
    "DonorScores",
    "FlagRules",
    "ForeignTissues",
    "GeneSets",
    "GeneSums",
    "GeneSumsMetric",
    "GeneTable",
    "Importance",
    "PairDesign",
    "TableComparison",
    "batch_share",
    "benjamini_hochberg",
    "build_gene_table",
    "default_importance",
    "depth_correlation",
    "donor_interval",
    "enrich",
    "explained_share",
    "expression_of_pairs",
    "l2_normalise",
    "mean_interval",
    "null_p",
    "pool_donors",
    "rank_genes",
    "require_gseapy",
    "scored_genes",
]
