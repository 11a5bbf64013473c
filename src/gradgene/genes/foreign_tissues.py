"""Markers of tissues that the cells do not come from: found in them, they are suspects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from gradgene.errors import ConfigError, closest
from gradgene.genes.gene_names import human_spelling
from gradgene.genes.marker_tables import read_gene_columns

__all__ = ["ForeignTissues"]


@dataclass(frozen=True, kw_only=True)
class ForeignTissues:
    """Genes that a marker table lists for other organs and for none of the cells' own.

    The defaults fit the marker table of PanglaoDB (https://panglaodb.se, Franzén 2019), which
    gives human symbols for man and mouse; other spellings of mouse genes are compared in capitals.
    Being listed is weak evidence: PanglaoDB has ISG15 as a marker in brain only. `limits` name the
    rows that count as evidence of being foreign; every row counts as evidence of being at home.

    Parameters
    ----------
    markers
        The table, .tsv or .csv (.gz), one row a gene and organ.
    tissues
        Organs of the cells, as the table calls them.
    gene_column, organ_column
        Columns of the gene symbol and of the organ. Rows without organ are passed over.
    limits
        Column -> lowest and highest number (null for none) of the rows that count. A row without
        a number in that column does not count.
    """

    markers: str
    tissues: tuple[str, ...]
    gene_column: str = "official gene symbol"
    organ_column: str = "organ"
    limits: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tissues:
            raise ConfigError(
                "names no organ of the cells",
                where="flags.foreign.tissues",
                fix="list the organs of the cells as the marker table calls them",
            )

    @cached_property
    def genes(self) -> frozenset[str]:
        """Human symbols of the foreign genes; the table is read once.

        Raises
        ------
        ConfigError
            If the table cannot be read, or lacks one of the columns or tissues.
        """
        columns = [self.gene_column, self.organ_column, *self.limits]
        table = read_gene_columns(self.markers, columns, "flags.foreign.markers")
        organs = table[self.organ_column].replace("NA", "")
        for tissue in self.tissues:
            if tissue not in set(organs):
                raise ConfigError(
                    f"the marker table has no organ {tissue!r}",
                    where="flags.foreign.tissues",
                    expected=f"some of {closest(tissue, sorted(set(organs) - {''}), 40)}",
                )
        symbols = table[self.gene_column].map(human_spelling)
        at_home = organs.isin(self.tissues)
        foreign = self._within_limits(table) & ~at_home & (organs != "") & (symbols != "")
        return frozenset(symbols[foreign]) - frozenset(symbols[at_home])

    def _within_limits(self, table: pd.DataFrame) -> pd.Series:
        within = pd.Series(True, index=table.index)
        for column, (low, high) in self.limits.items():
            number = pd.to_numeric(table[column], errors="coerce")
            within &= number.notna()
            within &= True if low is None else number >= low
            within &= True if high is None else number <= high
        return within
