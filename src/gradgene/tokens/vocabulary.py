"""Which integer stands for which label, expression bin, category and gene (PolyGene format)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradgene.cells import Cells
from gradgene.errors import TokenError, closest

__all__ = ["CLS", "EOS", "MASK", "PAD", "Vocabulary"]

#: Input ids of the special tokens; their token type is 0.
CLS, EOS, MASK, PAD = 0, 1, 2, 3
N_SPECIAL = 4


@dataclass(frozen=True)
class Vocabulary:
    """Ids of a PolyGene model: values in `input_ids`, identities in `token_type_ids`.

    Input ids are the four special tokens, then the labels of every category in alphabetical order
    of category, then `bin_0 … bin_n` with n = len(bin_edges). Token types are 0 for special
    tokens, then one per category in the same alphabetical order, then one per gene.

    Parameters
    ----------
    categories
        Category -> its labels, in the order of their ids.
    phenotypes
        Categories that take part in the sequence, in sequence order.
    genes
        Gene names, in the order of their ids.
    bin_edges
        Increasing lower edges of `bin_1 … bin_n`; a value below the first edge is not expressed.
    """

    categories: Mapping[str, tuple[str, ...]]
    phenotypes: tuple[str, ...]
    genes: tuple[str, ...]
    bin_edges: tuple[float, ...]

    def __post_init__(self) -> None:
        unknown = [c for c in self.phenotypes if c not in self.categories]
        if unknown:
            raise TokenError(f"phenotypes without labels: {', '.join(unknown)}")
        if list(self.bin_edges) != sorted(set(self.bin_edges)) or not self.bin_edges:
            raise TokenError(
                "bin edges must be distinct and increasing",
                where="data.bin_edges",
                found=str(list(self.bin_edges)),
            )
        if len(set(self.genes)) != len(self.genes):
            raise TokenError("a gene is in the vocabulary twice")
        ordered = {c: tuple(self.categories[c]) for c in sorted(self.categories)}
        object.__setattr__(self, "categories", ordered)

    @classmethod
    def from_cells(cls, cells: Cells, bin_edges: Sequence[float]) -> Vocabulary:
        """The vocabulary of all labels and genes of `cells`; labels are sorted by name."""
        return cls(
            categories={c: tuple(sorted(cells.counts_of(c))) for c in cells.schema.phenotypes},
            phenotypes=cells.schema.phenotypes,
            genes=cells.genes,
            bin_edges=tuple(float(e) for e in bin_edges),
        )

    @property
    def bin_offset(self) -> int:
        """Input id of `bin_0`."""
        return N_SPECIAL + sum(len(labels) for labels in self.categories.values())

    @property
    def n_values(self) -> int:
        """Number of input ids."""
        return self.bin_offset + len(self.bin_edges) + 1

    @property
    def gene_offset(self) -> int:
        """Token type of the first gene."""
        return 1 + len(self.categories)

    @property
    def n_types(self) -> int:
        """Number of token types."""
        return self.gene_offset + len(self.genes)

    def category_type(self, category: str) -> int:
        """Token type of a category; raises `TokenError` if there is none of that name."""
        self._require(category)
        return 1 + list(self.categories).index(category)

    def slot(self, category: str) -> int:
        """Position of a category in every sequence; raises `TokenError` if it has none."""
        if category not in self.phenotypes:
            raise TokenError(
                f"category {category!r} is not part of the sequence",
                expected=f"one of {closest(category, self.phenotypes)}",
            )
        return 1 + self.phenotypes.index(category)

    def label_ids(self, category: str) -> range:
        """Input ids of the labels of a category, in the order of `categories[category]`."""
        self._require(category)
        start = N_SPECIAL
        for name, labels in self.categories.items():
            if name == category:
                return range(start, start + len(labels))
            start += len(labels)
        raise AssertionError("unreachable: the category was checked")

    def label_id(self, category: str, label: str) -> int:
        """Input id of one label; raises `TokenError` naming the closest labels."""
        ids = self.label_ids(category)
        labels = self.categories[category]
        if label not in labels:
            raise TokenError(
                f"label {label!r} of {category!r} is not in the vocabulary",
                expected=f"one of {closest(label, labels)}",
            )
        return ids[labels.index(label)]

    def gene_index(self, genes: Sequence[str]) -> np.ndarray:
        """Positions of gene names among `genes`; -1 for unknown ones."""
        index = {name: i for i, name in enumerate(self.genes)}
        return np.array([index.get(name, -1) for name in genes], dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers, for JSON and for Lightning checkpoints."""
        return {
            "categories": {c: list(labels) for c, labels in self.categories.items()},
            "phenotypes": list(self.phenotypes),
            "genes": list(self.genes),
            "bin_edges": list(self.bin_edges),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Vocabulary:
        """The inverse of `to_dict`; raises `TokenError` naming what is missing."""
        missing = [k for k in ("categories", "phenotypes", "genes", "bin_edges") if k not in data]
        if missing:
            raise TokenError(f"the vocabulary lacks {', '.join(missing)}")
        return cls(
            categories={c: tuple(labels) for c, labels in data["categories"].items()},
            phenotypes=tuple(data["phenotypes"]),
            genes=tuple(data["genes"]),
            bin_edges=tuple(data["bin_edges"]),
        )

    @classmethod
    def read(cls, file: Path) -> Vocabulary:
        """Read a `vocabulary.json` written from `to_dict`."""
        return cls.from_dict(json.loads(file.read_text()))

    def _require(self, category: str) -> None:
        if category not in self.categories:
            raise TokenError(
                f"no category {category!r} in the vocabulary",
                expected=f"one of {closest(category, self.categories)}",
            )
