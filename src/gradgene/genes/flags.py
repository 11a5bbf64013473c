"""Technical flags of genes: reasons to distrust a gene however high its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np
import pandas as pd

from gradgene.errors import ConfigError, RankingError, closest
from gradgene.genes.foreign_tissues import ForeignTissues
from gradgene.genes.gene_names import BY_NAME, human_spelling, is_symbol, without_version
from gradgene.genes.marker_tables import read_gene_columns

__all__ = ["FLAGS", "FlagRules"]

#: Every flag word, in the order in which they are written.
FLAGS = (*BY_NAME, "ambient_suspect", "tissue_foreign", "depth", "batch")


@dataclass(frozen=True, kw_only=True)
class FlagRules:
    """Which genes are set apart as likely artefacts, and when.

    A flag never changes a score. Flags by name need symbols: a gene known by its Ensembl or
    Entrez id alone gets none of them unless `symbols` maps the id, and `note` says so.

    Parameters
    ----------
    names
        Flags given by the gene's name: "mitochondrial" (MT-*), "ribosomal" (proteins of the
        cytosolic ribosome), "haemoglobin", "cell_cycle" (S and G2/M genes of Tirosh 2016). Human
        and mouse symbols are known.
    ambient
        Patterns with `*` and `?`, upper and lower case distinguished, of names that are
        "ambient_suspect". `MTRNR2L*` are nuclear copies of a mitochondrial RNA.
    foreign
        Markers of other tissues, which are "tissue_foreign", or None.
    depth
        Least magnitude of the correlation of score and depth for the flag "depth"; None for none.
    batch
        Least share of the score's variance that donor and batches explain beyond depth, for the
        flag "batch"; None for none. 0.3 was chosen on planted cells (seed 4): genes of the batch
        have 0.4 there where pairs are not matched on it, all others less than 0.1.
    symbols
        Table with columns `ensembl_id` and `gene_symbol` (.tsv or .csv, also .gz), or None.

    Raises
    ------
    ConfigError
        For an unknown word or a threshold outside 0 to 1.
    """

    names: tuple[str, ...] = tuple(BY_NAME)
    ambient: tuple[str, ...] = ("MTRNR2L*",)
    foreign: ForeignTissues | None = None
    depth: float | None = 0.5
    batch: float | None = 0.3
    symbols: str | None = None

    def __post_init__(self) -> None:
        for word in self.names:
            if word not in BY_NAME:
                raise ConfigError(
                    f"no flag {word!r} is given by a gene's name",
                    where="flags.names",
                    expected=f"some of {closest(word, BY_NAME)}",
                )
        for key in ("depth", "batch"):
            threshold = getattr(self, key)
            if threshold is not None and not 0 <= threshold <= 1:
                raise ConfigError(
                    "is no share",
                    where=f"flags.{key}",
                    expected="a number from 0 to 1, or null",
                    found=str(threshold),
                )

    def read(self) -> FlagRules:
        """Read the files that the rules name, so that a wrong one is known before work begins.

        Raises
        ------
        ConfigError
            If one is missing or does not hold what it should.
        """
        if self.foreign is not None:
            self.foreign.genes  # noqa: B018  # reading is the point
        self.symbol_of_id  # noqa: B018
        return self

    @cached_property
    def symbol_of_id(self) -> Mapping[str, str]:
        """Ensembl id without version -> symbol, of the table `symbols`; empty without one."""
        if self.symbols is None:
            return {}
        columns = ["ensembl_id", "gene_symbol"]
        table = read_gene_columns(self.symbols, columns, "flags.symbols")
        named = table[(table["gene_symbol"] != "") & (table["ensembl_id"] != "")]
        ids = named["ensembl_id"].map(without_version)
        return dict(zip(ids, named["gene_symbol"], strict=True))

    def flag(
        self,
        genes: Sequence[str],
        *,
        ensembl_ids: Sequence[str | None] | None = None,
        depth_correlation: Sequence[float] | np.ndarray | None = None,
        batch_share: Sequence[float] | np.ndarray | None = None,
    ) -> pd.Series:
        """Flags of each gene: index `genes`, values such as "mitochondrial;depth" or None.

        Parameters
        ----------
        genes
            Names of the genes.
        ensembl_ids
            Their Ensembl ids where known, for `symbols`.
        depth_correlation
            Correlation of each gene's score with depth over the pairs; NaN where unknown.
        batch_share
            Share of each score's variance that donor and batches explain beyond depth; NaN where
            unknown.

        Raises
        ------
        RankingError
            If one of the others has not as many entries as `genes`.
        """
        words = [self._by_name(called or set()) for called in self._called(genes, ensembl_ids)]
        for word, values, threshold in (
            ("depth", depth_correlation, self.depth),
            ("batch", batch_share, self.batch),
        ):
            if values is None or threshold is None:
                continue
            numbers = np.asarray(values, dtype=float)
            _require_length(len(numbers), len(genes), word)
            for i in np.flatnonzero(np.abs(numbers) >= threshold):
                words[i].append(word)
        joined = [";".join(w) or None for w in words]
        return pd.Series(joined, index=pd.Index(genes, name="gene"), name="flags", dtype=object)

    def note(
        self, genes: Sequence[str], *, ensembl_ids: Sequence[str | None] | None = None
    ) -> str | None:
        """What must be said beside the flags: genes whose names cannot be judged. None if all can.

        Raises
        ------
        RankingError
            If there are not as many `ensembl_ids` as `genes`.
        """
        words = [*self.names, *(["ambient_suspect"] if self.ambient else [])]
        words += ["tissue_foreign"] if self.foreign is not None else []
        n = sum(called is None for called in self._called(genes, ensembl_ids))
        if not words or not n:
            return None
        return (
            f"{n} of {len(genes)} genes are known by an id only, so that nobody can say whether "
            f"they are {', '.join(words)}: these flags are missing, not absent. Name the column "
            "of gene symbols in data.gene_key, or a table of ids and symbols in flags.symbols."
        )

    def _called(
        self, genes: Sequence[str], ensembl_ids: Sequence[str | None] | None
    ) -> list[set[str] | None]:
        """The symbols each gene is known by: its name, that of its id; None if there is only an id.

        A gene to which `symbols` itself gives no symbol but its id has none, which is knowledge.
        """
        ids = [None] * len(genes) if ensembl_ids is None else ensembl_ids
        _require_length(len(ids), len(genes), "ensembl_ids")
        called: list[set[str] | None] = []
        for gene, gene_id in zip(genes, ids, strict=True):
            found = {self.symbol_of_id.get(without_version(i)) for i in (gene, gene_id) if i}
            found = (found | {gene if is_symbol(gene) else None}) - {None}
            called.append({s for s in found if s and is_symbol(s)} if found else None)
        return called

    def _by_name(self, called: set[str]) -> list[str]:
        words = [word for word in BY_NAME if word in self.names and any(map(BY_NAME[word], called))]
        if any(fnmatchcase(name, pattern) for name in called for pattern in self.ambient):
            words.append("ambient_suspect")
        if self.foreign is not None and not self.foreign.genes.isdisjoint(
            map(human_spelling, called)
        ):
            words.append("tissue_foreign")
        return words


def _require_length(found: int, expected: int, what: str) -> None:
    if found != expected:
        raise RankingError(f"{what}: expected one entry a gene, {expected}, found {found}")
