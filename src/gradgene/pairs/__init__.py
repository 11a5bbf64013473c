"""Matched input/baseline cells and their blending on the union of genes."""

from gradgene.pairs.baselines import BaselineStrategy, CellStateBaseline, EmptyBaseline, Pass
from gradgene.pairs.blending import BlendedBatch, blend
from gradgene.pairs.sampling import PairPlan, PairSampler

__all__ = [
    "BaselineStrategy",
    "BlendedBatch",
    "CellStateBaseline",
    "EmptyBaseline",
    "PairPlan",
    "PairSampler",
    "Pass",
    "blend",
]
