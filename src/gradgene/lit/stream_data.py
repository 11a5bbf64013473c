"""Cells of any number, streamed from their files for pretraining."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import lightning
import numpy as np
import pandas as pd
from scipy import sparse

from gradgene.cells import (
    CellQuery,
    Cells,
    CellSchema,
    CellShards,
    Split,
    choose_genes,
    panel_notes,
    split_cells,
)
from gradgene.cells.panel import GeneRule
from gradgene.cells.schema import ValueKind
from gradgene.errors import CellsError, ConfigError, require_least
from gradgene.lit.streaming import Streaming, TokenStream
from gradgene.tokens import Binning, Bins, Tokenizer, Vocabulary

__all__ = ["StreamDataModule"]

#: Training cells that tell which share of a cell's genes the vocabulary knows.
SHARE_SAMPLE = 1000


class StreamDataModule(lightning.LightningDataModule):
    """Splits the cells of one or many files by donor and streams token batches of them.

    No matrix is in memory. Every training cell is served once an epoch, whatever the number of
    processes; a validation pass serves every validation cell once.

    Parameters
    ----------
    path, layer, values, gene_key
        Files (a path, a list, a glob) and what their values and columns mean.
    phenotypes
        Ordered obs columns that become phenotype tokens; missing labels are allowed.
    bin_edges, binning, n_bins
        The expression bins, as `Bins.of` takes them.
    genes
        None for all, n for the most variable ones of `gene_sample` training cells, or a file.
    gene_rule
        What most variable means, as in `choose_genes`.
    gene_sample
        Largest number of training cells, drawn at random, that choose the genes.
    holdout_donors
        Donors (names, or a fraction of them) whose cells are not read at all; [] or 0 for none.
    validation, validation_donors
        Share of the other cells, or the donors among them, that choose the checkpoint.
    train_tokens
        Fresh random subset of a training cell's genes; None trains on whole cells.
    epochs
        How often the training cells are served.
    batch_tokens, fetch_cells, block_cells, workers
        See `Streaming`.
    donor, filters, seed
        Facts of the study.

    Raises
    ------
    GradgeneError
        From `setup`, for anything in the data that does not fit.
    """

    def __init__(
        self,
        path: str | tuple[str, ...],
        phenotypes: tuple[str, ...],
        bin_edges: tuple[float, ...],
        donor: str | None = None,
        filters: dict[str, tuple[str, ...]] | None = None,
        layer: str | None = None,
        values: ValueKind = "counts",
        gene_key: str | None = None,
        binning: Binning = "fixed",
        n_bins: int | None = None,
        genes: int | str | None = None,
        gene_rule: GeneRule = "seurat",
        gene_sample: int = 20_000,
        holdout_donors: tuple[str, ...] | float = 0.0,
        validation: float = 0.05,
        validation_donors: tuple[str, ...] | float | None = None,
        train_tokens: int | None = None,
        epochs: int = 1,
        batch_tokens: int = 16384,
        fetch_cells: int = 2048,
        block_cells: int = 32,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_least(
            "data",
            train_tokens=(train_tokens, 1),
            epochs=(epochs, 1),
            gene_sample=(gene_sample, 1),
        )
        self.path = path
        self.schema = CellSchema(tuple(phenotypes), donor, layer, values, gene_key)
        self.query = CellQuery({k: tuple(v) for k, v in (filters or {}).items()})
        self.bins = Bins.of(binning, bin_edges, n_bins)
        self.gene_rule: GeneRule = gene_rule
        self.genes, self.gene_sample, self.seed = genes, gene_sample, seed
        self.holdout_donors, self.validation = holdout_donors, validation
        self.validation_donors = validation_donors
        self.train_tokens, self.epochs = train_tokens, epochs
        self.streaming = Streaming(batch_tokens, fetch_cells, block_cells, workers)
        self.shards: CellShards | None = None
        self.panel_notes: tuple[str, ...] = ()

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Serve the cells to a model that has its genes, labels and bins; before `setup`."""
        self.tokenizer = tokenizer

    def use_batches(self, batch_tokens: int) -> None:
        """Serve batches of another budget from now on."""
        self.streaming = replace(self.streaming, batch_tokens=batch_tokens)
        self.__dict__.pop("training", None)

    def setup(self, stage: str | None = None) -> None:
        """Open the files, split the cells and fix the vocabulary once; later calls do nothing."""
        if self.shards is not None:
            return
        shards = CellShards.open(self.path, self.schema, self.query)
        self.split = self._split(shards)
        if not self.split.validation_n.size:
            by_share = self.validation_donors is None
            share = self.validation if by_share else self.validation_donors
            raise ConfigError(
                "no cell is left to choose the checkpoint on",
                where="data.validation" if by_share else "data.validation_donors",
                found=f"{share} of {self.split.train_n.size} cells",
                fix="raise data.validation or name data.validation_donors",
            )
        if not hasattr(self, "tokenizer"):
            self.tokenizer = Tokenizer(self._vocabulary(shards), self.schema)
            self.panel_notes = panel_notes(shards.genes, self.genes)
        self.share = self._share(shards)
        self.shards = shards

    def _split(self, shards: CellShards) -> Split:
        """Held-out donors are the test part; cells of no known donor are in none."""
        donor, held = self.schema.donor, self.holdout_donors
        by_donor = donor is not None and (bool(held) or self.validation_donors is not None)
        known_n = np.arange(len(shards))
        if by_donor:
            # A cell of an unknown donor could be of a held-out one, so it cannot be learnt from.
            known_n = np.flatnonzero(shards.obs[donor].notna())
        names = _names_only(shards, known_n, donor if by_donor else None)
        if held:
            split = split_cells(
                names, "any", held, self.validation, self.seed, self.validation_donors
            )
        else:
            chosen = self.validation if self.validation_donors is None else self.validation_donors
            every_n = np.arange(len(names))
            train_n, validation_n = every_n, every_n[:0]
            if chosen:  # `setup` refuses none
                drawn = split_cells(names, "any", chosen, 0.0, self.seed)
                train_n, validation_n = drawn.train_n, drawn.test_n
            split = Split(train_n, validation_n, every_n[:0], "no donor is held out")
        train_n, validation_n, test_n = (known_n[rows_n] for rows_n in split.names.values())
        return Split(train_n, validation_n, test_n, split.kind)

    def _vocabulary(self, shards: CellShards) -> Vocabulary:
        """Labels of all cells that are not held out; genes by a sample of the training cells."""
        train_n = self.split.train_n
        if self.genes is None:
            panel = shards.genes
        else:
            rng = np.random.default_rng([self.seed, 1])
            sample_n = np.sort(rng.permutation(train_n)[: self.gene_sample])
            panel = choose_genes(shards.read(sample_n), self.genes, self.gene_rule)
        seen = shards.obs.iloc[np.concatenate([train_n, self.split.validation_n])]
        blank_ng = sparse.csr_matrix((len(seen), len(panel)), dtype=np.float32)
        nameless = ("",) * len(panel)
        cells = Cells(blank_ng, seen, panel, nameless, self.schema)
        empty = [c for c in self.schema.phenotypes if not cells.counts_of(c)]
        if empty:
            raise CellsError(
                f"no training cell has a label in {empty[0]!r}",
                where="data.phenotypes",
                fix=f"take {empty[0]!r} out of data.phenotypes",
            )
        return Vocabulary.from_cells(cells, self.bins)

    def _share(self, shards: CellShards) -> float:
        """What share of a training cell's stored entries are of the vocabulary: of most cells less.

        Some cells with a larger share only make their batches a little larger than the budget.
        """
        rng = np.random.default_rng([self.seed, 2])
        sample_n = np.sort(rng.permutation(self.split.train_n)[:SHARE_SAMPLE])
        known_n = np.diff(self.tokenizer.prepare(shards.read(sample_n)).matrix_ng.indptr)
        return float(np.quantile(known_n / shards.nnz_n[sample_n], 0.9))

    def units(self, name: str) -> list[str]:
        """Donors of a part of the split, or its cells where the study names no donor."""
        assert self.shards is not None
        obs, donor = self.shards.obs.iloc[self.split.names[name]], self.schema.donor
        return sorted({str(u) for u in (obs[donor].dropna() if donor else obs.index)})

    def report(self) -> dict[str, Any]:
        """What was opened, left out, split and cut, for `data_report.json`."""
        assert self.shards is not None
        parts = self.split.names
        n_kept = sum(rows.size for rows in parts.values())
        no_donor = len(self.shards) - n_kept
        dropped = {**self.shards.dropped, f"no {self.schema.donor}": no_donor}
        dropped = {reason: n for reason, n in dropped.items() if n}
        notes = [*self.shards.notes, *self.panel_notes]
        limit = self.train_tokens or np.inf
        long_n = self.shards.nnz_n[parts["train"]] * self.share > limit
        if long_n.any():
            notes.append(
                f"{int(long_n.sum())} of {long_n.size} training cells may express more than "
                f"{limit} genes: they show a fresh random subset each epoch."
            )
        return {
            "files": [str(file) for file in self.shards.files],
            "n_cells_read": n_kept + sum(dropped.values()),
            "n_cells_kept": n_kept,
            "dropped": dropped,
            "n_genes": len(self.tokenizer.vocabulary.genes),
            "split": self.split.kind,
            "n_cells": {name: int(rows.size) for name, rows in parts.items()},
            "labels": {c: len(v) for c, v in self.tokenizer.vocabulary.categories.items()},
            "notes": notes,
        }

    @cached_property
    def training(self) -> TokenStream:
        """The training batches of all epochs, of this process."""
        return self._stream("train", self.train_tokens, epochs=self.epochs)

    def train_dataloader(self) -> TokenStream:
        """As `training`."""
        return self.training

    def val_dataloader(self) -> TokenStream:
        """Whole validation cells, the same at every pass."""
        return self._stream("validation", None, shuffle=False)

    def _stream(self, name: str, max_genes: int | None, **more: Any) -> TokenStream:
        self.setup()
        assert self.shards is not None
        return TokenStream(
            self.shards,
            self.tokenizer,
            self.split.names[name],
            self.streaming,
            seed=self.seed,
            max_genes=max_genes,
            share=self.share,
            rank=self.trainer.global_rank if self.trainer else 0,
            world=self.trainer.world_size if self.trainer else 1,
            **more,
        )


def _names_only(shards: CellShards, rows_n: np.ndarray, donor: str | None) -> Cells:
    """Cells without genes: all that a split needs to know of them."""
    obs = pd.DataFrame({"any": "cell"}, index=shards.obs.index[rows_n])
    if donor is not None:
        obs[donor] = shards.obs[donor].iloc[rows_n].astype(object)
    blank_ng = sparse.csr_matrix((len(obs), 0), dtype=np.float32)
    return Cells(blank_ng, obs, (), (), replace(shards.schema, phenotypes=("any",), donor=donor))
