"""Ground floor: `.h5ad` and `.zarr` files in, cells with genes, phenotypes and donors out."""

from gradgene.cells.cells import Cells, log_normalise
from gradgene.cells.drawing import draw_cells, in_turn
from gradgene.cells.joining import strip_version
from gradgene.cells.labels import MISSING_LABELS
from gradgene.cells.panel import choose_genes, panel_notes
from gradgene.cells.paths import resolve_paths
from gradgene.cells.reading import cells_from_anndata, read_cells
from gradgene.cells.schema import CellQuery, CellSchema, require_label
from gradgene.cells.shards import CellShards
from gradgene.cells.splits import Split, split_cells
from gradgene.cells.synthetic import (
    FIRST_TEST_SEED,
    PLANTED_LEVELS,
    Planted,
    PlantedGenes,
    PlantedLevel,
    SyntheticShards,
    plant_cells,
    write_synthetic_shards,
)

__all__ = [
    "FIRST_TEST_SEED",
    "MISSING_LABELS",
    "PLANTED_LEVELS",
    "CellQuery",
    "CellSchema",
    "CellShards",
    "Cells",
    "Planted",
    "PlantedGenes",
    "PlantedLevel",
    "Split",
    "SyntheticShards",
    "cells_from_anndata",
    "choose_genes",
    "draw_cells",
    "in_turn",
    "log_normalise",
    "panel_notes",
    "plant_cells",
    "read_cells",
    "require_label",
    "resolve_paths",
    "split_cells",
    "strip_version",
    "write_synthetic_shards",
]
