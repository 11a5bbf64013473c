"""Cells as Lightning wants them: split, normalised, tokenised batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import lightning
import numpy as np
import pandas as pd
from torch.utils.data import DataLoader, Dataset, Sampler

from gradgene.cells import (
    CellQuery,
    Cells,
    CellSchema,
    Split,
    choose_genes,
    log_normalise,
    read_cells,
    require_label,
    split_cells,
)
from gradgene.cells.schema import ValueKind
from gradgene.errors import CellsError, ConfigError
from gradgene.tokens import TokenBatch, Tokenizer, Vocabulary

__all__ = ["CellDataModule"]


class CellDataModule(lightning.LightningDataModule):
    """Reads the cells of a study, splits them by donor and serves token batches.

    Parameters
    ----------
    path, layer, values, gene_key
        The file and what its values and columns mean.
    phenotypes
        Ordered obs columns; the target must be one of them.
    bin_edges
        Lower edges of the expression bins; values below the first are not expressed.
    genes
        None (all seen in training), n of highest variance in training cells, or a file.
    holdout_donors
        Donors (names or fraction) held out for judging.
    validation
        Share of the other cells used to choose the checkpoint.
    train_tokens
        Fresh random subset of a training cell's genes; None trains on whole cells.
    batch_size
        Cells a training batch.
    target, input, baseline, donor, filters, seed
        Facts of the study.

    Raises
    ------
    GradgeneError
        From `setup`, for anything in the data that does not fit.
    """

    def __init__(
        self,
        path: str,
        phenotypes: tuple[str, ...],
        target: str,
        input: str,
        baseline: str,
        bin_edges: tuple[float, ...],
        donor: str | None = None,
        filters: dict[str, tuple[str, ...]] | None = None,
        layer: str | None = None,
        values: ValueKind = "counts",
        gene_key: str | None = None,
        genes: int | str | None = None,
        holdout_donors: tuple[str, ...] | float = 0.3,
        validation: float = 0.1,
        train_tokens: int | None = None,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_ranges(holdout_donors, validation)
        _check_sizes(batch_size, train_tokens)
        self.path, self.target, self.input, self.baseline = path, target, input, baseline
        self.schema = CellSchema(tuple(phenotypes), donor, layer, values, gene_key)
        self.query = CellQuery({k: tuple(v) for k, v in (filters or {}).items()})
        self.bin_edges, self.genes, self.seed = bin_edges, genes, seed
        self.holdout_donors, self.validation = holdout_donors, validation
        self.train_tokens, self.batch_size = train_tokens, batch_size
        self.cells: Cells | None = None

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Serve the cells to a model that already has its genes, labels and bins.

        Call it before `setup`.

        Raises
        ------
        CellsError
            If the model reads a phenotype that the study does not.
        """
        missing = [c for c in tokenizer.vocabulary.phenotypes if c not in self.schema.phenotypes]
        if missing:
            raise CellsError(
                f"the model reads the phenotype {missing[0]!r}, which the study does not name",
                where="data.phenotypes",
                expected=str(list(tokenizer.vocabulary.phenotypes)),
                found=str(list(self.schema.phenotypes)),
            )
        self.tokenizer = tokenizer

    def setup(self, stage: str | None = None) -> None:
        """Read, check, split and normalise once; later calls do nothing."""
        if self.cells is not None:
            return
        if self.target not in self.schema.phenotypes:
            raise CellsError(
                f"the target {self.target!r} is not among the phenotypes",
                where="data.phenotypes",
                expected=f"a list with {self.target!r}",
                found=str(list(self.schema.phenotypes)),
            )
        read = read_cells(self.path, self.schema, self.query)
        cells = _complete(read, self.target)
        for label, where in ((self.input, "study.input"), (self.baseline, "study.baseline")):
            require_label(label, cells.counts_of(self.target), column=self.target, where=where)
        self.split = split_cells(
            cells, self.target, self.holdout_donors, self.validation, self.seed
        )
        self._check_sides(cells, self.split)
        if hasattr(self, "tokenizer"):
            self.cells = self.tokenizer.prepare(cells)
        else:
            panel = choose_genes(cells.take(self.split.train_n), self.genes)
            self.cells = log_normalise(cells).with_genes(panel)
            vocabulary = Vocabulary.from_cells(self.cells, self.bin_edges)
            self.tokenizer = Tokenizer(vocabulary, self.schema)
        self._leave_out_empty(self.cells)

    def _leave_out_empty(self, cells: Cells) -> None:
        """Take cells that express no gene of the panel out of every part, and count them."""
        expressed = cells.expressed(self.tokenizer.vocabulary.bin_edges[0])
        some_n = np.asarray(expressed.sum(axis=1)).ravel() > 0
        if some_n.all():
            return
        train_n, validation_n, test_n = (rows[some_n[rows]] for rows in self.split.names.values())
        self.split = Split(train_n, validation_n, test_n, self.split.kind)
        dropped = {**cells.dropped, "no gene of the panel": int((~some_n).sum())}
        self.cells = replace(cells, dropped=dropped)
        self._check_sides(self.cells, self.split)

    def units(self, name: str) -> list[str]:
        """What must not be on both sides of the split: donors, or cells where there are none."""
        part = self.part(name)
        donor = self.schema.donor
        return sorted({str(u) for u in (part.obs[donor] if donor else part.obs.index)})

    def part(self, name: str) -> Cells:
        """The prepared cells of "train", "validation" or "test"."""
        self.setup()
        assert self.cells is not None
        return self.cells.take(self.split.names[name])

    def table(self) -> pd.DataFrame:
        """Cells and donors by split and target label: `split, label, n_cells, n_donors`."""
        rows = []
        for name in self.split.names:
            part = self.part(name)
            for label, n_cells in part.counts_of(self.target).items():
                mine = part.obs[part.obs[self.target] == label]
                donor = self.schema.donor
                n_donors = int(mine[donor].nunique()) if donor else None
                rows.append((name, label, n_cells, n_donors))
        return pd.DataFrame(rows, columns=["split", "label", "n_cells", "n_donors"])

    def train_dataloader(self) -> DataLoader[TokenBatch]:
        """Shuffled batches, each cell with a fresh random subset of its genes."""
        return self._loader("train", self.train_tokens, shuffle=True)

    def val_dataloader(self) -> DataLoader[TokenBatch]:
        """Whole validation cells in order."""
        return self._loader("validation", None, shuffle=False)

    def test_dataloader(self) -> DataLoader[TokenBatch]:
        """Whole held-out cells in order."""
        return self._loader("test", None, shuffle=False)

    def _loader(self, name: str, max_genes: int | None, shuffle: bool) -> DataLoader[TokenBatch]:
        data = TokenisedCells(self.part(name), self.tokenizer, max_genes)
        batches = SeededBatches(len(data), self.batch_size, shuffle, self.seed)
        return DataLoader(data, sampler=batches, batch_size=None)

    def _check_sides(self, cells: Cells, split: Split) -> None:
        """Both labels must be on both sides of the split."""
        for name in ("train", "test"):
            counts = cells.take(split.names[name]).counts_of(self.target)
            if len(counts) < 2:
                raise CellsError(
                    f"the {name} cells have the one label {next(iter(counts), None)!r}",
                    where=f"study.target={self.target}",
                    expected="cells of at least two labels",
                    fix="change data.holdout_donors or study.filters",
                )
            for label in (self.input, self.baseline):
                if label not in counts:
                    raise CellsError(
                        f"no {name} cell has the label {label!r}",
                        where="data.holdout_donors",
                        found=f"{name} cells: {counts} ({split.kind})",
                        fix="hold out donors that have cells of both labels",
                    )


class TokenisedCells(Dataset[TokenBatch]):
    """Tokenises a whole batch of rows at a time, straight from the sparse matrix."""

    def __init__(self, cells: Cells, tokenizer: Tokenizer, max_genes: int | None) -> None:
        self.cells, self.tokenizer, self.max_genes = cells, tokenizer, max_genes

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, batch: tuple[int, np.ndarray]) -> TokenBatch:
        seed, rows = batch
        rng = np.random.default_rng(seed)
        return self.tokenizer.encode(self.cells.take(rows), self.max_genes, rng)


class SeededBatches(Sampler[tuple[int, np.ndarray]]):
    """Batches of rows, each with a seed of its own; what epoch e holds depends on e alone.

    A run resumed at an epoch therefore sees the same cells and genes as one never stopped.
    """

    def __init__(self, n: int, batch_size: int, shuffle: bool, seed: int) -> None:
        self.n, self.batch_size, self.shuffle, self.seed = n, batch_size, shuffle, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        rows = rng.permutation(self.n) if self.shuffle else np.arange(self.n)
        for start in range(0, self.n, self.batch_size):
            yield int(rng.integers(2**31)), rows[start : start + self.batch_size]


def _check_ranges(holdout_donors: tuple[str, ...] | float, validation: float) -> None:
    """Raise `ConfigError` for what is no share of the cells."""
    shares = {"validation": validation}
    if isinstance(holdout_donors, int | float):
        shares["holdout_donors"] = holdout_donors
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ConfigError(
                "is not a share", where=f"data.{name}", expected="in [0, 1)", found=str(share)
            )


def _check_sizes(batch_size: int, train_tokens: int | None) -> None:
    """Raise `ConfigError` for batches or subsets without anything in them."""
    for name, number in (("batch_size", batch_size), ("train_tokens", train_tokens)):
        if number is not None and number < 1:
            raise ConfigError(
                "is too small", where=f"data.{name}", expected="1 or more", found=str(number)
            )


def _complete(cells: Cells, target: str) -> Cells:
    """Leave out cells without a target label or donor, and count them.

    A cell of an unknown donor could be of a held-out one, so it cannot be learnt from.
    """
    dropped = dict(cells.dropped)
    for column in filter(None, (target, cells.schema.donor)):
        known = cells.obs[column].notna().to_numpy()
        if not known.all():
            dropped[f"no {column}"] = int((~known).sum())
            cells = cells.take(np.flatnonzero(known))
    return replace(cells, dropped=dropped)
