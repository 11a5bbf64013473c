"""Do the scores agree with a published effect, label by label?

Formula
    Spearman's correlation, over the genes that both have, of score x direction with the published
    log fold change. Direction is +1 for genes that are up in the input's label among the cells of
    the pairs, -1 for those that are down and 0 where nothing differs.
What it shows
    A score says how much a gene speaks for the input's label, whether by its presence or by its
    absence; the direction gives it the sign of an effect. The direction alone agrees with most
    published effects, so read a value beside that of random scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, cast

import numpy as np
import pandas as pd
from scipy import stats

from gradgene.errors import ConfigError, closest
from gradgene.genes.marker_tables import read_gene_columns

__all__ = ["EffectAgreement", "KnownEffects", "PooledScores", "effect_agreement"]

#: With fewer genes a rank correlation says nothing.
MIN_GENES = 3
#: How tables write that a number is missing.
MISSING = ("", "na", "nan", "null", "none")
#: Label of published effects that are not told apart.
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class KnownEffects:
    """A published table of log fold changes of the input's label over the baseline's.

    Parameters
    ----------
    file
        The table, .tsv, .txt or .csv, also .gz.
    gene, log_fold_change
        Its columns of gene names, as the data spells them, and of log fold changes of any base.
        Rows without a number are left out.
    label
        Its column of labels, such as cell types; None where it has one effect a gene.
    labels
        Label of the file -> labels of the category `ranking.by` that belong to it. Empty takes
        every label of the file for a label of the data.

    Raises
    ------
    ConfigError
        If labels are given without their column.
    """

    file: str
    gene: str = "gene"
    log_fold_change: str = "log_fold_change"
    label: str | None = None
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels and self.label is None:
            raise ConfigError(
                "which column of the file holds the labels is not said",
                where="evaluation.effects.label",
                fix="name it, or leave out evaluation.effects.labels",
            )

    def read(self) -> pd.DataFrame:
        """The published effects: `label` ("all" without labels), `gene`, `log_fold_change`.

        Raises
        ------
        ConfigError
            For a missing or unreadable file, a missing column or label, a text among the numbers,
            or a gene that occurs twice under one label.
        """
        where = "evaluation.effects.file"
        columns = [self.gene, self.log_fold_change, *([self.label] if self.label else [])]
        table = read_gene_columns(self.file, columns, where)
        text = table[self.log_fold_change]
        number = pd.to_numeric(text, errors="coerce")
        wrong = text[number.isna() & ~text.str.lower().isin(MISSING)]
        if len(wrong):
            raise ConfigError(
                f"the column {self.log_fold_change!r} of {self.file} holds more than numbers",
                where=where,
                found=repr(wrong.iloc[0]),
            )
        effects = pd.DataFrame(
            {
                "label": table[self.label] if self.label else ALL,
                "gene": table[self.gene],
                "log_fold_change": number,
            }
        )
        finite = np.isfinite(effects["log_fold_change"].to_numpy(dtype=float))
        effects = cast(pd.DataFrame, effects[finite & (effects["gene"] != "").to_numpy()])
        self._check(effects)
        if self.labels:
            effects = effects[effects["label"].isin(list(self.labels))]
        return effects.reset_index(drop=True)

    def members(self, effects: pd.DataFrame) -> dict[str, tuple[str, ...]]:
        """Label of the file -> labels of the data, for every label of what `read` gave."""
        found = [str(label) for label in effects["label"].unique()]
        return {label: tuple(self.labels.get(label, (label,))) for label in found}

    def _check(self, effects: pd.DataFrame) -> None:
        found = set(effects["label"])
        for label in self.labels:
            if label not in found:
                raise ConfigError(
                    f"{self.file} has no effect of {label!r}",
                    where="evaluation.effects.labels",
                    expected=f"one of {closest(label, sorted(found))}",
                )
        twice = effects[effects.duplicated(["label", "gene"])]
        if len(twice):
            row = twice.iloc[0]
            raise ConfigError(
                f"{self.file} has two effects of {row['gene']!r} in {row['label']!r}",
                where="evaluation.effects.file",
                fix="name the column of labels in evaluation.effects.label"
                if self.label is None
                else None,
            )


@dataclass(frozen=True)
class EffectAgreement:
    """Spearman's correlation over `n_genes`; NaN with fewer than 3 genes or without variance."""

    n_genes: int
    spearman: float


def effect_agreement(
    scores: pd.Series, direction: pd.Series, published: pd.Series
) -> EffectAgreement:
    """Spearman's correlation of score x direction with a published log fold change.

    Parameters
    ----------
    scores
        Score of each gene (index), signed or a magnitude; both are multiplied by the direction.
    direction
        1, -1 or 0 by gene: up or down in the input's label, or neither.
    published
        Log fold change by gene.

    Genes that one of the three lacks, or has no number for, are left out.
    """
    both = pd.DataFrame({"effect": scores * direction}).join(published.rename("published"))
    both = both[np.isfinite(both.to_numpy(dtype=float)).all(axis=1)]
    n = len(both)
    if n < MIN_GENES or (both.nunique() < 2).any():
        return EffectAgreement(n, float("nan"))
    return EffectAgreement(n, float(stats.spearmanr(both["effect"], both["published"]).statistic))


@dataclass(frozen=True)
class PooledScores:
    """What the pairs of several labels together say of each gene.

    Attributes
    ----------
    scores_gr
        Mean over all their pairs, a row a gene that one of them has and a column a ranking.
    change_g
        Log fold change by gene, the mean of the labels' own by their pairs; its sign is the
        direction. In a single label it is that label's.
    """

    scores_gr: pd.DataFrame
    change_g: pd.Series

    @classmethod
    def of(cls, rankings: pd.DataFrame, table: pd.DataFrame, labels: tuple[str, ...]) -> Self:
        """Pool the tables of `labels`, each weighing as its number of pairs.

        Parameters
        ----------
        rankings
            `ranking, label, gene, score`: means over a label's pairs, absent counting as 0.
            Magnitudes (`…/abs`) are taken after pooling.
        table
            Rows of gene tables by label: `label, gene, rank, n_pairs, log_fold_change`.

        Labels without pairs are passed over; with none left both are empty.
        """
        mine = table[table["label"].isin(labels)]
        # A phenotype's row counts every pair of its label, a gene's only those that have it.
        n_l = mine.groupby("label")["n_pairs"].max().astype(float)
        share_l = n_l / n_l.sum()
        scored = mine[mine["rank"].notna()]
        genes = pd.Index(np.sort(scored["gene"].unique()), dtype=object)
        # A gene that no pair of a label has is scored 0 there, and does not differ.
        change_g = _weighted(scored, "log_fold_change", ["gene"], share_l).reindex(genes)
        signed = rankings[~rankings["ranking"].str.endswith("/abs")]
        pooled = _weighted(signed, "score", ["gene", "ranking"], share_l)
        scores_gr = pooled.unstack("ranking").reindex(genes).fillna(0.0)
        magnitudes = {
            name: scores_gr[name.removesuffix("/abs")].abs()
            for name in rankings["ranking"].unique()
            if name.endswith("/abs") and name.removesuffix("/abs") in scores_gr
        }
        return cls(scores_gr.assign(**magnitudes), change_g)

    @property
    def direction_g(self) -> pd.Series:
        """1, -1 or 0 by gene."""
        return pd.Series(np.sign(self.change_g))


def _weighted(frame: pd.DataFrame, value: str, by: list[str], share_l: pd.Series) -> pd.Series:
    """Sums of a column x its label's share, by the columns `by`."""
    share = frame["label"].map(share_l)
    weighted = frame[by].assign(value=frame[value] * share)[share.notna()]
    return weighted.groupby(by)["value"].sum()
