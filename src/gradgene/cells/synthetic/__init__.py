"""Cells made by a program: files of any size, and cells whose telling genes are known.

`shards` writes files as large as one likes, for speed. `planted` makes cells to judge rankings by.
"""

from gradgene.cells.synthetic.genes import PlantedGenes
from gradgene.cells.synthetic.levels import FIRST_TEST_SEED, PLANTED_LEVELS, PlantedLevel
from gradgene.cells.synthetic.planted import Planted, plant_cells
from gradgene.cells.synthetic.shards import SyntheticShards, write_synthetic_shards

__all__ = [
    "FIRST_TEST_SEED",
    "PLANTED_LEVELS",
    "Planted",
    "PlantedGenes",
    "PlantedLevel",
    "SyntheticShards",
    "plant_cells",
    "write_synthetic_shards",
]
