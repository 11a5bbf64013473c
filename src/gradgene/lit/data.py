"""Cells as Lightning wants them: split, normalised, tokenised batch by batch."""

from __future__ import annotations

from dataclasses import replace

import lightning
import numpy as np
import pandas as pd
from torch.utils.data import DataLoader

from gradgene.cells import (
    CellQuery,
    Cells,
    CellSchema,
    CellShards,
    Split,
    choose_genes,
    draw_cells,
    log_normalise,
    panel_notes,
    require_label,
    split_cells,
)
from gradgene.cells.panel import GeneRule
from gradgene.cells.schema import ValueKind
from gradgene.cells.shards import without_empty
from gradgene.errors import CellsError, ConfigError, require_least
from gradgene.lit.batches import LengthBatches, SeededBatches, TokenisedCells, token_lengths
from gradgene.tokens import Binning, Bins, TokenBatch, Tokenizer, TruncationReport, Vocabulary

__all__ = ["CellDataModule"]


class CellDataModule(lightning.LightningDataModule):
    """Reads the cells of a study, splits them by donor and serves token batches.

    Parameters
    ----------
    path, layer, values, gene_key
        The files (one, several, or a glob) and what their values and columns mean.
    phenotypes
        Ordered obs columns; the target must be one of them.
    bin_edges, binning, n_bins
        Expression bins as `Bins.of` makes them; values below the first edge are not expressed.
    genes
        None (all seen in training), n most variable in training cells, or a file.
    gene_rule
        What most variable means, as in `choose_genes`.
    holdout_donors
        Donors (names or fraction) held out for judging.
    validation
        Share of the other cells used to choose the checkpoint.
    validation_donors
        Donors (names or fraction of those not held out) used instead, whole; `validation` is then
        not read.
    max_cells
        Number of cells drawn for the study, half of `input` and half of `baseline`, evenly over
        donors; other labels are left out. None takes all cells.
    train_tokens
        Fresh random subset of a training cell's genes; None trains on whole cells.
    batch_size
        Cells a batch.
    batch_tokens
        Padded tokens a batch, in batches of cells of similar length; `batch_size` is then not read.
    target, input, baseline, donor, batch, filters, seed
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
        gene_rule: GeneRule = "seurat",
        binning: Binning = "fixed",
        n_bins: int | None = None,
        holdout_donors: tuple[str, ...] | float = 0.3,
        validation: float = 0.1,
        validation_donors: tuple[str, ...] | float | None = None,
        max_cells: int | None = None,
        train_tokens: int | None = None,
        batch_size: int = 32,
        batch_tokens: int | None = None,
        seed: int = 0,
        batch: str | None = None,
    ) -> None:
        super().__init__()
        _check_shares(
            holdout_donors=holdout_donors,
            validation=validation,
            validation_donors=validation_donors,
        )
        require_least(
            "data",
            batch_size=(batch_size, 1),
            batch_tokens=(batch_tokens, 1),
            train_tokens=(train_tokens, 1),
            max_cells=(max_cells, 2),
        )
        self.path, self.target, self.input, self.baseline = path, target, input, baseline
        self.schema = CellSchema(tuple(phenotypes), donor, layer, values, gene_key, batch)
        self.query = CellQuery({k: tuple(v) for k, v in (filters or {}).items()})
        self.bins = Bins.of(binning, bin_edges, n_bins)
        self.gene_rule: GeneRule = gene_rule
        self.genes, self.max_cells, self.seed = genes, max_cells, seed
        self.holdout_donors, self.validation = holdout_donors, validation
        self.validation_donors = validation_donors
        self.train_tokens = train_tokens
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self.cells: Cells | None = None

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Serve the cells to a model that already has its genes, labels and bins.

        Call it before `setup`.

        Raises
        ------
        CellsError
            If the model reads a phenotype that the study does not.
        """
        vocabulary = tokenizer.vocabulary
        missing = [c for c in vocabulary.phenotypes if c not in self.schema.phenotypes]
        if missing and vocabulary.layout.absent == "error":
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
        cells = self._read()
        self.split = split_cells(
            cells,
            self.target,
            self.holdout_donors,
            self.validation,
            self.seed,
            self.validation_donors,
        )
        self._check_sides(cells, self.split)
        if hasattr(self, "tokenizer"):
            self.cells = self.tokenizer.prepare(cells)
        else:
            panel = choose_genes(cells.take(self.split.train_n), self.genes, self.gene_rule)
            notes = (*cells.notes, *panel_notes(cells.genes, self.genes))
            self.cells = replace(log_normalise(cells).with_genes(panel), notes=notes)
            vocabulary = Vocabulary.from_cells(self.cells, self.bins)
            self.tokenizer = Tokenizer(vocabulary, self.schema)
        self._leave_out_empty(self.cells)

    def _read(self) -> Cells:
        """The cells of the study; of all others only labels are read."""
        shards = CellShards.open(self.path, self.schema, self.query)
        rows_n, dropped = _complete(shards, self.target)
        labels_n = shards.obs[self.target].iloc[rows_n]
        counts = {str(k): int(n) for k, n in labels_n.value_counts().items() if n}
        for label, where in ((self.input, "study.input"), (self.baseline, "study.baseline")):
            require_label(label, counts, column=self.target, where=where)
        notes = shards.notes
        if self.max_cells is not None:
            drawn_n = self._draw(shards.obs.iloc[rows_n])
            n_others = len(rows_n) - counts[self.input] - counts[self.baseline]
            dropped["neither input nor baseline"] = n_others
            dropped["not drawn"] = len(rows_n) - n_others - len(drawn_n)
            taken = labels_n.iloc[drawn_n].value_counts()
            said = " and ".join(f"{taken[k]} {k!r}" for k in (self.input, self.baseline))
            notes += (f"data.max_cells={self.max_cells}: drew {said}, evenly over donors",)
            rows_n = rows_n[drawn_n]
        cells = shards.read(rows_n)
        dropped = {k: n for k, n in {**cells.dropped, **dropped}.items() if n}
        return without_empty(replace(cells, dropped=dropped, notes=notes), where=str(self.path))

    def _draw(self, obs: pd.DataFrame) -> np.ndarray:
        """Positions of the `max_cells` cells of the contrast."""
        assert self.max_cells is not None
        labels = self.input, self.baseline
        return draw_cells(obs, self.target, labels, self.schema.donor, self.max_cells, self.seed)

    def _leave_out_empty(self, cells: Cells) -> None:
        """Take cells that express no gene of the panel out of every part, and count them."""
        expressed = cells.expressed(self.tokenizer.vocabulary.bins.threshold)
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

    def truncation(self) -> dict[str, TruncationReport]:
        """Of each split what the layout leaves out of whole cells; empty where it has no limit."""
        self.setup()
        if self.tokenizer.vocabulary.layout.max_length is None:
            return {}
        return {name: self.tokenizer.truncation(self.part(name)) for name in self.split.names}

    def train_dataloader(self) -> DataLoader[TokenBatch]:
        """Shuffled batches, each cell with a fresh random subset of its genes."""
        return self._loader("train", self.train_tokens, shuffle=True)

    def val_dataloader(self) -> DataLoader[TokenBatch]:
        """Whole validation cells, in order; with `batch_tokens` the longest first."""
        return self._loader("validation", None, shuffle=False)

    def test_dataloader(self) -> DataLoader[TokenBatch]:
        """Whole held-out cells, in order; with `batch_tokens` the longest first."""
        return self._loader("test", None, shuffle=False)

    def _loader(self, name: str, max_genes: int | None, shuffle: bool) -> DataLoader[TokenBatch]:
        part = self.part(name)
        data = TokenisedCells(part, self.tokenizer, max_genes)
        batches = SeededBatches(len(data), self.batch_size, shuffle, self.seed)
        if self.batch_tokens is not None:
            lengths_n = token_lengths(part, self.tokenizer, max_genes)
            batches = LengthBatches(lengths_n, self.batch_tokens, shuffle, self.seed)
        return DataLoader(data, sampler=batches, batch_size=None)

    def _check_sides(self, cells: Cells, split: Split) -> None:
        """Both labels must be on both sides of the split, and where donors validate, there too."""
        sides = ("train", "test") if self.validation_donors is None else tuple(split.names)
        for name in sides:
            key = "data.validation_donors" if name == "validation" else "data.holdout_donors"
            counts = cells.take(split.names[name]).counts_of(self.target)
            if len(counts) < 2:
                raise CellsError(
                    f"the {name} cells have the one label {next(iter(counts), None)!r}",
                    where=f"study.target={self.target}",
                    expected="cells of at least two labels",
                    fix=f"change {key} or study.filters",
                )
            for label in (self.input, self.baseline):
                if label not in counts:
                    raise CellsError(
                        f"no {name} cell has the label {label!r}",
                        where=key,
                        found=f"{name} cells: {counts} ({split.kind})",
                        fix=f"name donors in {key} that have cells of both labels",
                    )


def _check_shares(**shares: tuple[str, ...] | float | None) -> None:
    """Raise `ConfigError` for what is no share; names of donors are none."""
    for name, share in shares.items():
        if isinstance(share, int | float) and not 0 <= share < 1:
            raise ConfigError(
                "is not a share", where=f"data.{name}", expected="in [0, 1)", found=str(share)
            )


def _complete(shards: CellShards, target: str) -> tuple[np.ndarray, dict[str, int]]:
    """Positions of cells that have a target label and a donor, and how many lack which.

    A cell of an unknown donor could be of a held-out one, so it cannot be learnt from.
    """
    rows_n, dropped = np.arange(len(shards)), {}
    for column in filter(None, (target, shards.schema.donor)):
        known = shards.obs[column].iloc[rows_n].notna().to_numpy()
        dropped[f"no {column}"] = int((~known).sum())
        rows_n = rows_n[known]
    return rows_n, dropped
