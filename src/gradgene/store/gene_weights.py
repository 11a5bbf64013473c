"""The gene set of a query and its weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradgene.errors import ConfigError, closest_first
from gradgene.store.parts import StorePart

__all__ = ["GeneWeights"]

#: Unknown genes named in a message, and names offered for each.
SHOWN = 3


@dataclass(frozen=True)
class GeneWeights:
    """A gene set: names and (genes,) float64 weights, finite and not 0."""

    genes: tuple[str, ...]
    weights: np.ndarray

    @classmethod
    def of(cls, genes: Sequence[str], weights: Sequence[float] | None) -> GeneWeights:
        """Check what a user gives; weights None are all 1.

        Raises
        ------
        ConfigError
            For no gene, a gene given twice, or weights that do not fit or are 0 or not finite.
        """
        names = tuple(str(gene) for gene in genes)
        if not names:
            raise ConfigError("names no gene", where="genes", fix="genes=ISG15,IFI6")
        if len(set(names)) != len(names):
            twice = next(g for g in names if names.count(g) > 1)
            raise ConfigError("names a gene twice", where="genes", found=twice)
        values = np.ones(len(names)) if weights is None else np.asarray(weights, dtype=np.float64)
        if values.shape != (len(names),):
            raise ConfigError(
                "are not one a gene",
                where="weights",
                expected=f"{len(names)} numbers",
                found=str(values.size),
            )
        if not np.isfinite(values).all() or (values == 0).any():
            raise ConfigError(
                "must be finite and not 0", where="weights", found=str(values.tolist())
            )
        return cls(names, values)

    def coverage(self, columns: np.ndarray) -> float:
        """Share of the weight that was found; `columns` (genes,) is -1 for genes that were not."""
        share = np.abs(self.weights[columns >= 0]).sum() / np.abs(self.weights).sum()
        return float(share)

    def found_in(
        self, parts: Sequence[StorePart], missing: Literal["error", "skip"]
    ) -> list[np.ndarray]:
        """Of each part, (genes,) the column of every gene, -1 where it has none.

        Raises
        ------
        ConfigError
            For genes that no part has (with `missing` "skip": if that are all of them), or two
            names of one gene.
        """
        found = [part.columns_of(self.genes) for part in parts]
        nowhere = np.stack(found).max(axis=0) < 0
        if nowhere.all() or (nowhere.any() and missing == "error"):
            self._refuse([g for g, no in zip(self.genes, nowhere, strict=True) if no], parts)
        for columns in found:
            seen: dict[int, str] = {}
            for gene, column in zip(self.genes, columns.tolist(), strict=True):
                if column >= 0 and column in seen:
                    both = f"{seen[column]} and {gene}"
                    raise ConfigError("names a gene twice", where="genes", found=both)
                seen[column] = gene
        return found

    def _refuse(self, unknown: list[str], parts: Sequence[StorePart]) -> None:
        valid = sorted({str(gene) for part in parts for gene in part.genes})
        near = [f"for {g!r} {', '.join(map(repr, _nearest(g, valid)))}" for g in unknown[:SHOWN]]
        raise ConfigError(
            f"{len(unknown)} of {len(self.genes)} genes are in no part of the store",
            where="genes",
            found=", ".join(unknown[:20]) + (" …" if len(unknown) > 20 else ""),
            expected=f"closest {'; '.join(near)}",
            fix="correct them, or count them as missing with missing=skip",
        )


def _nearest(gene: str, valid: Iterable[str]) -> list[str]:
    """Names that differ by case only, then those most like it."""
    valid = list(valid)
    same = [v for v in valid if v.casefold() == gene.casefold()]
    return [*dict.fromkeys([*same, *closest_first(gene, valid)[:SHOWN]])][:SHOWN]
