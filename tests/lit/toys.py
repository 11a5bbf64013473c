"""Planted cells in a file, the data module that reads them, and a quiet trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import lightning
import numpy as np

from gradgene.attribution import Attribution
from gradgene.genes import GeneSumsMetric
from gradgene.lit import (
    AttributionCollector,
    CellDataModule,
    FineTuning,
    Keeping,
    MaskedTarget,
    PhenotypeModule,
)
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, PairPlan
from tests.planted import BIN_EDGES, PHENOTYPES, make_adata

__all__ = ["Watched", "data_module", "phenotype_module", "trainer", "write"]


class Watched(AttributionCollector):
    """Calls `watch` with each attribution it has added and the plan positions of its pairs."""

    def __init__(
        self,
        sums: GeneSumsMetric,
        plan: PairPlan,
        watch: Callable[[Attribution, np.ndarray], None],
        keeping: Keeping | None = None,
    ) -> None:
        super().__init__(sums, plan, keeping)
        self.watch = watch

    def _add(self, attribution: Attribution, batch: BlendedBatch, pairs: np.ndarray) -> None:
        super()._add(attribution, batch, pairs)
        self.watch(attribution, pairs)


def write(adata: ad.AnnData, folder: Path) -> Path:
    """Write an AnnData into `folder`."""
    adata.write_h5ad(folder / "cells.h5ad")
    return folder / "cells.h5ad"


def data_module(
    source: Path | ad.AnnData, folder: Path | None = None, **changes: Any
) -> CellDataModule:
    """Case against control over planted cells, donor d3 held out; `changes` override."""
    if isinstance(source, ad.AnnData):
        assert folder is not None
        source = write(source, folder)
    facts: dict[str, Any] = {
        "path": str(source),
        "phenotypes": PHENOTYPES,
        "target": "disease",
        "input": "case",
        "baseline": "control",
        "bin_edges": BIN_EDGES,
        "donor": "donor",
        "holdout_donors": ("d3",),
        "batch_size": 16,
    }
    return CellDataModule(**{**facts, **changes})


def phenotype_module(data: CellDataModule, max_epochs: int = 8) -> PhenotypeModule:
    """A tiny model without dropout, so that training is a function of data and weights alone."""
    data.setup()
    lightning.seed_everything(0, verbose=False)
    model = PhenotypeGeneTransformer(
        data.tokenizer.vocabulary, dim=16, n_layers=1, n_heads=2, hidden_dim=32, dropout=0.0
    )
    return PhenotypeModule(
        model, data.schema, data.target, FineTuning(5e-3, 0.01, max_epochs), MaskedTarget()
    )


def trainer(**more: Any) -> lightning.Trainer:
    """On the CPU, without logger, bars or files unless asked for."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return lightning.Trainer(**{**quiet, **more})


def adata_with(n: int = 96, seed: int = 0, **obs: Any) -> ad.AnnData:
    """Planted cells with some obs columns replaced."""
    adata = make_adata(n=n, seed=seed)
    for column, values in obs.items():
        adata.obs[column] = values
    return adata
