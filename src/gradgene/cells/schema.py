"""What the columns and values of a cell file mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gradgene.errors import ConfigError, LabelError, closest_first

__all__ = ["CellQuery", "CellSchema"]

ValueKind = Literal["counts", "lognorm"]


@dataclass(frozen=True)
class CellSchema:
    """Which parts of a cell file hold expression, genes, phenotypes, donors and batches.

    Parameters
    ----------
    phenotypes
        Ordered obs columns that become phenotype tokens.
    donor
        Obs column of the donor (the independent unit), or None.
    layer
        None for `.X`, "raw" for `.raw`, otherwise a layer's name.
    values
        "counts" (raw UMI counts) or "lognorm" (log1p of counts scaled to a common depth).
    gene_key
        Var column with the gene names; None for the var index.
    batch
        Obs column of the technical batch, or None; it is read to judge scores by.
    """

    phenotypes: tuple[str, ...]
    donor: str | None = None
    layer: str | None = None
    values: ValueKind = "counts"
    gene_key: str | None = None
    batch: str | None = None

    def __post_init__(self) -> None:
        if not self.phenotypes:
            raise ConfigError(
                "names no phenotype column", where="data.phenotypes", fix="list obs columns"
            )
        if len(set(self.phenotypes)) != len(self.phenotypes):
            raise ConfigError(
                "names a column twice", where="data.phenotypes", found=str(self.phenotypes)
            )


@dataclass(frozen=True)
class CellQuery:
    """Which cells to keep: every named column must hold one of its listed labels."""

    filters: dict[str, tuple[str, ...]] = field(default_factory=dict)


def require_label(label: str, counts: dict[str, int], *, column: str, where: str) -> None:
    """Check that `label` is one of `counts` (label -> number of cells) of an obs column.

    Raises
    ------
    LabelError
        If it is not: names `where`, and the labels with their counts, closest first.
    """
    if label in counts:
        return
    names = closest_first(label, counts)
    shown = ", ".join(f"{k!r} ({counts[k]})" for k in names[:8]) or "(none)"
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    raise LabelError(
        f"no cell has the label {label!r} in column {column!r}",
        where=where,
        expected=f"one of these, with their number of cells: {shown}{more}",
        fix="correct the label (labels are case-sensitive)",
    )
