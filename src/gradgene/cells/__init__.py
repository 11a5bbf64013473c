"""Ground floor: `.h5ad` files in, cells with genes, phenotypes and donors out."""

from gradgene.cells.cells import Cells, log_normalise
from gradgene.cells.panel import choose_genes
from gradgene.cells.reading import cells_from_anndata, read_cells, resolve_path
from gradgene.cells.schema import CellQuery, CellSchema, require_label
from gradgene.cells.splits import Split, split_cells

__all__ = [
    "CellQuery",
    "CellSchema",
    "Cells",
    "Split",
    "cells_from_anndata",
    "choose_genes",
    "log_normalise",
    "read_cells",
    "require_label",
    "resolve_path",
    "split_cells",
]
