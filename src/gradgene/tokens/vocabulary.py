"""Which integer stands for which label, expression bin, category and gene."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gradgene.cells import Cells
from gradgene.errors import TokenError, closest
from gradgene.tokens.bins import Bins
from gradgene.tokens.layout import Layout, TokenIds

__all__ = ["Vocabulary"]

N_SPECIAL = 4


@dataclass(frozen=True)
class Vocabulary:
    """Ids of a model of the PolyGene family: values in `input_ids`, identities in `token_type_ids`.

    Unless `ids` lists them, input ids are the four special tokens, then the labels of every
    category in alphabetical order of category, then `bin_0 … bin_n`. Token types are 0 for special
    tokens, then one per category in the same alphabetical order, then one per gene; in a layout
    whose identity is the position, they are the positions.

    Parameters
    ----------
    categories
        Category -> its labels, in the order of their ids.
    phenotypes
        Categories that take part in the sequence, in sequence order.
    genes
        Gene names, in the order of their ids.
    bin_edges, quantile_bins
        Expression bins, as `edges` and `quantiles` of `Bins`.
    layout
        Special tokens, texts and order of the sequence; by default our own.
    ids
        Input ids, where they do not follow from the labels.
    """

    categories: Mapping[str, tuple[str, ...]]
    phenotypes: tuple[str, ...]
    genes: tuple[str, ...]
    bin_edges: tuple[float, ...]
    quantile_bins: int | None = None
    layout: Layout = field(default_factory=Layout)
    ids: TokenIds | None = None

    def __post_init__(self) -> None:
        unknown = [c for c in self.phenotypes if c not in self.categories]
        if unknown:
            raise TokenError(f"phenotypes without labels: {', '.join(unknown)}")
        if len(set(self.genes)) != len(self.genes):
            raise TokenError("a gene is in the vocabulary twice")
        ordered = {c: tuple(self.categories[c]) for c in sorted(self.categories)}
        object.__setattr__(self, "categories", ordered)
        object.__setattr__(self, "bin_edges", self.bins.edges)
        if self.ids is not None:
            given = {c: len(ids) for c, ids in self.ids.labels.items()}
            wanted = {c: len(labels) for c, labels in ordered.items()}
            if given != wanted or self.ids.first_bin + len(self.bins) >= self.ids.n_values:
                raise TokenError(
                    "the listed ids do not fit the labels and bins",
                    expected=f"{wanted} labels, {len(self.bins) + 1} bins",
                    found=f"{given} labels, {self.ids.n_values - self.ids.first_bin} bins",
                )

    @classmethod
    def from_cells(cls, cells: Cells, bins: Bins | Sequence[float]) -> Vocabulary:
        """The vocabulary of all labels and genes of `cells`; labels are sorted by name."""
        if not isinstance(bins, Bins):
            bins = Bins(tuple(bins))
        return cls(
            categories={c: tuple(sorted(cells.counts_of(c))) for c in cells.schema.phenotypes},
            phenotypes=cells.schema.phenotypes,
            genes=cells.genes,
            bin_edges=bins.edges,
            quantile_bins=bins.quantiles,
        )

    @cached_property
    def bins(self) -> Bins:
        """The expression bins; `bins.threshold` is the lowest expressed value."""
        return Bins(self.bin_edges, self.quantile_bins)

    @property
    def pad_id(self) -> int:
        """Input id of `[PAD]`."""
        return self.layout.pad

    @property
    def mask_id(self) -> int:
        """Input id of `[MASK]`."""
        return self.layout.mask

    @property
    def bin_offset(self) -> int:
        """Input id of `bin_0`."""
        if self.ids is not None:
            return self.ids.first_bin
        return N_SPECIAL + sum(len(labels) for labels in self.categories.values())

    @property
    def n_values(self) -> int:
        """Number of input ids."""
        return self.bin_offset + len(self.bins) + 1 if self.ids is None else self.ids.n_values

    @property
    def n_header(self) -> int:
        """Number of tokens before the first gene."""
        return 1 + len(self.phenotypes) + (self.layout.start is not None)

    @property
    def gene_offset(self) -> int:
        """Token type of the first gene."""
        return self.n_header if self._by_position else 1 + len(self.categories)

    @property
    def n_types(self) -> int:
        """Number of token types."""
        behind = self._by_position and self.layout.end is not None
        return self.gene_offset + len(self.genes) + behind

    @property
    def _by_position(self) -> bool:
        return self.layout.identity == "position"

    def category_type(self, category: str) -> int:
        """Token type of a category; raises `TokenError` if there is none of that name."""
        self._require(category)
        return (
            self.slot(category) if self._by_position else 1 + list(self.categories).index(category)
        )

    def slot(self, category: str) -> int:
        """Position of a category in every sequence; raises `TokenError` if it has none."""
        if category not in self.phenotypes:
            raise TokenError(
                f"category {category!r} is not part of the sequence",
                expected=f"one of {closest(category, self.phenotypes)}",
            )
        return 1 + self.phenotypes.index(category)

    def label_ids(self, category: str) -> Sequence[int]:
        """Input ids of the labels of a category, in the order of `categories[category]`.

        They need not be contiguous: index with them, never slice from the first.
        """
        self._require(category)
        return self._label_ids[category]

    def knows(self, category: str, label: str) -> bool:
        """Whether a label has a token; raises `TokenError` for an unknown category."""
        self._require(category)
        return self._find(category, label) is not None

    def label_index(self, category: str, label: str) -> int:
        """Position of a label, in any spelling of its token, among the labels of its category.

        Raises `TokenError` naming the closest labels.
        """
        self._require(category)
        index = self._find(category, label)
        if index is None:
            raise TokenError(
                f"label {label!r} of {category!r} is not in the vocabulary",
                expected=f"one of {closest(label, self.categories[category])}",
            )
        return index

    def _find(self, category: str, label: str) -> int | None:
        known = self._label_index[category]
        return known.get(self.layout.token(category, label), known.get(label))

    def label_id(self, category: str, label: str) -> int:
        """Input id of one label; raises `TokenError` naming the closest labels."""
        return self.label_ids(category)[self.label_index(category, label)]

    def missing_id(self, category: str) -> int:
        """Input id in the slot of a category that a cell has no label of.

        Reading cells turns the label `unknown` into a missing one; a model that was trained with a
        token for it gets that token. Raises `TokenError` for an unknown category.
        """
        if category in self.layout.missing:
            return self.layout.missing[category]
        if self.knows(category, "unknown"):
            return self.label_id(category, "unknown")
        return self.mask_id

    def spelled_as(self, labels: Mapping[str, Iterable[str]]) -> Vocabulary:
        """The same ids, with labels (category -> labels) under the names given.

        Models that rewrite labels know `alzheimer disease`; results should say what the cells say.
        Labels that the vocabulary does not know are passed over.
        """
        named = {c: list(known) for c, known in self.categories.items()}
        for category in named.keys() & labels.keys():
            known = self._label_index[category]
            for label in labels[category]:
                index = known.get(self.layout.token(category, label))
                if index is not None:
                    named[category][index] = label
        return replace(self, categories={c: tuple(names) for c, names in named.items()})

    def grown(self, labels: Mapping[str, Iterable[str]]) -> Vocabulary:
        """With further labels (category -> labels); those it knows are passed over.

        Of new labels that are one token the first names it. The labels of a category stay in front
        of its new ones; a new category takes the last slot. Where ids are listed, new ones follow
        the largest; otherwise all are counted anew, so that a model needs `models.grown` to keep
        its weights where they belong.

        Raises
        ------
        TokenError
            For a new category where ids are listed or positions stand for categories.
        """
        new = {c: self._unknown(c, given) for c, given in labels.items()}
        categories = {c: (*self.categories.get(c, ()), *added) for c, added in new.items()}
        unread = [c for c in labels if c not in self.phenotypes]
        ids = self.ids
        if unread and (ids is not None or self._by_position):
            raise TokenError(
                f"the sequence of this model has no place for the category {unread[0]!r}",
                expected=f"one of {closest(unread[0], self.phenotypes)}",
            )
        if ids is not None:
            listed, next_id = dict(ids.labels), ids.n_values
            for category, added in new.items():
                listed[category] = (*listed[category], *range(next_id, next_id + len(added)))
                next_id += len(added)
            ids = TokenIds(listed, ids.first_bin, next_id)
        return replace(
            self,
            categories={**self.categories, **categories},
            phenotypes=(*self.phenotypes, *unread),
            ids=ids,
        )

    def _unknown(self, category: str, labels: Iterable[str]) -> list[str]:
        """Those of `labels` without a token, one for each token that they would have."""
        new: dict[str, str] = {}
        for label in labels:
            if category not in self.categories or not self.knows(category, label):
                new.setdefault(self.layout.token(category, label), label)
        return list(new.values())

    @cached_property
    def _label_ids(self) -> dict[str, Sequence[int]]:
        if self.ids is not None:
            return dict(self.ids.labels)
        ids: dict[str, Sequence[int]] = {}
        start = N_SPECIAL
        for category, labels in self.categories.items():
            ids[category] = range(start, start + len(labels))
            start += len(labels)
        return ids

    @cached_property
    def _label_index(self) -> dict[str, dict[str, int]]:
        """Category -> label or its token's text -> position; the text counts first."""
        return {
            c: {name: i for i, name in enumerate(labels)}
            | {self.layout.token(c, name): i for i, name in enumerate(labels)}
            for c, labels in self.categories.items()
        }

    @cached_property
    def _gene_index(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.genes)}

    def gene_index(self, genes: Sequence[str]) -> np.ndarray:
        """Positions of gene names among `genes`; -1 for unknown ones."""
        index = self._gene_index
        return np.array([index.get(name, -1) for name in genes], dtype=np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers, for JSON and for Lightning checkpoints.

        What is as in our own format is left out.
        """
        layout = self.layout.to_dict()
        return {
            "categories": {c: list(labels) for c, labels in self.categories.items()},
            "phenotypes": list(self.phenotypes),
            "genes": list(self.genes),
            "bin_edges": list(self.bin_edges),
            **({"quantile_bins": self.quantile_bins} if self.quantile_bins else {}),
            **({"layout": layout} if layout else {}),
            **({"ids": self.ids.to_dict()} if self.ids is not None else {}),
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
            quantile_bins=data.get("quantile_bins"),
            layout=Layout.from_dict(data.get("layout", {})),
            ids=TokenIds(**data["ids"]) if "ids" in data else None,
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
