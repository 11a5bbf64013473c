"""Matched input/baseline cells and their blending on the union of genes."""

from gradgene.pairs.baselines import (
    BASELINES,
    BaselineStrategy,
    CellStateBaseline,
    EmptyBaseline,
    MeanBaseline,
    Pass,
    ZeroBaseline,
)
from gradgene.pairs.blending import BlendedBatch, blend
from gradgene.pairs.blind import blind_pairs
from gradgene.pairs.plan import PairPlan
from gradgene.pairs.sampling import PairSampler

__all__ = [
    "BASELINES",
    "BaselineStrategy",
    "BlendedBatch",
    "CellStateBaseline",
    "EmptyBaseline",
    "MeanBaseline",
    "PairPlan",
    "PairSampler",
    "Pass",
    "ZeroBaseline",
    "blend",
    "blind_pairs",
]
