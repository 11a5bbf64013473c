"""The gene tables: every gene, the best without and with a technical flag, the best by label."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pandas as pd

from gradgene.reports.evidence import FLAG_MEANINGS, flags_of, has_flags, named_flags
from gradgene.reports.numbers import number, percent
from gradgene.reports.run_files import RunFiles, ranked
from gradgene.reports.sections.tables import Table, frame_table, joined, make_table

__all__ = [
    "GeneRows",
    "flag_table",
    "flagged_table",
    "gene_table",
    "gene_url",
    "label_table",
    "unflagged_table",
]

#: Columns that fit on paper.
PRINTED = frozenset(
    "rank gene flags score ci_low ci_high direction log_fold_change p_adjusted p_null n_pairs "
    "n_donors".split()
)

#: So many rows are in the page itself; the rest is drawn when somebody pages, sorts or searches.
PAGE = 100

#: More labels than this are no table to read; the file has them all.
MOST_LABELS = 60

#: Stable identifiers of genes, of any species and with or without a version.
_ENSEMBL = re.compile(r"ENS[A-Z]*G[0-9]{11}(\.[0-9]+)?")

# Column → heading, kind (how it is written and sorted), explanation.
_GENE_COLUMNS = {
    "rank": ("Rank", "count", "1 is the most important gene"),
    "gene": ("Gene", "text", "Gene symbol"),
    "ensembl_id": ("Ensembl", "text", "Ensembl identifier"),
    "flags": ("Flags", "text", "Technical reasons to be wary of this gene"),
    "score": ("Score", "number", "Mean over all pairs, 0 where the gene is absent"),
    "score_donors": ("Score over donors", "number", "Mean of donor means, centre of the interval"),
    "ci_low": ("CI low", "number", "Lower end of the 95 % t-interval over donors"),
    "ci_high": ("CI high", "number", "Upper end of the 95 % t-interval over donors"),
    "direction": ("Direction", "direction", "Whether input cells express it more or less"),
    "log_fold_change": ("Log FC", "number", "Log fold change, input against baseline"),
    "p": ("p", "number", "Of the donor means against 0, for this gene alone"),
    "p_adjusted": ("Adjusted p", "number", "p corrected for the number of genes"),
    "p_null": (
        "Null p",
        "number",
        "Against scores with the labels of pairs exchanged at random, corrected for the number of"
        " genes; pairs count as independent",
    ),
    "score_present": ("Score where present", "number", "Mean over pairs in which it is expressed"),
    "presence": ("Presence", "number", "Part of the score owed to being expressed at all"),
    "mean_abs": ("Mean |score|", "number", "Mean of absolute scores over all pairs"),
    "mean_abs_present": (
        "Mean |score| where present",
        "number",
        "Mean of absolute scores over pairs in which it is expressed",
    ),
    "between_baseline_variance": (
        "Variance over baselines",
        "number",
        "Variance of the score among the baselines of one input cell",
    ),
    "depth_correlation": (
        "Depth correlation",
        "number",
        "Correlation over pairs of the score with the number of genes expressed",
    ),
    "explained_share": (
        "Explained by depth and batch",
        "number",
        "Share (0-1) of the score's variance over pairs that donor, batch and depth explain",
    ),
    "zero_importance": ("Zero share", "number", "Share (0-1) of its pairs with a score of 0"),
    "n_pairs": ("Pairs", "count", "Pairs in which the gene is expressed"),
    "n_donors": ("Donors", "count", "Donors in which the gene is expressed"),
}


@dataclass(frozen=True)
class GeneRows:
    """The gene table: `columns` as (heading, kind, explanation), `rows` as plain values.

    Values are numbers, strings or None; `keys` are the columns' names in the gene table. `page`
    gives the first rows as text for the page itself, with `links` and `bars` of the same rows, and
    `island` everything for the script that sorts and searches.
    """

    columns: tuple[tuple[str, str, str], ...]
    rows: tuple[tuple[Any, ...], ...]
    keys: tuple[str, ...]

    def page(self) -> list[tuple[str, ...]]:
        """The first 100 rows as text."""
        return [tuple(number(value) for value in row) for row in self.rows[:PAGE]]

    def links(self) -> list[str]:
        """The address that each of these rows' genes leads to."""
        genes, ids = self._column("gene"), self._column("ensembl_id")
        return [gene_url(*both) for both in zip(genes, ids, strict=True)][:PAGE]

    def bars(self) -> list[tuple[tuple[float, float], tuple[float, float] | None] | None]:
        """The score and the interval of these rows as (left, width) in percent of the axis."""
        span = self.span
        columns = [self._column(key) for key in ("score", "ci_low", "ci_high")]
        rows = list(zip(*columns, strict=True))[:PAGE]
        if span is None:
            return [None] * len(rows)
        return [
            None
            if score is None
            else (_piece(0, score, span), None if low is None else _piece(low, high, span))
            for score, low, high in rows
        ]

    def off_paper(self) -> list[int]:
        """Places, counted from 1, of the columns that do not fit on paper."""
        return [i for i, key in enumerate(self.keys, start=1) if key not in PRINTED]

    @property
    def span(self) -> tuple[float, float] | None:
        """Both ends of the axis of scores, 0 within; None where all scores are 0."""
        ends = [0.0]
        for key in ("score", "ci_low", "ci_high"):
            ends += [value for value in self._column(key) if value is not None]
        return (min(ends), max(ends)) if min(ends) < max(ends) else None

    def meanings(self) -> list[tuple[str, str]]:
        """What each column means, as (heading, explanation)."""
        return [(heading, meaning) for heading, _, meaning in self.columns]

    def island(self) -> dict[str, Any]:
        """Everything as plain JSON: kinds of columns, rows per page, the axis of scores, rows."""
        kinds = [kind for _, kind, _ in self.columns]
        rows = [list(row) for row in self.rows]
        return {"kinds": kinds, "page": PAGE, "span": self.span, "rows": rows}

    def _column(self, key: str) -> list[Any]:
        if key not in self.keys:
            return [None] * len(self.rows)
        at = self.keys.index(key)
        return [row[at] for row in self.rows]


def _piece(a: float, b: float, span: tuple[float, float]) -> tuple[float, float]:
    width = span[1] - span[0]
    return round(100 * (min(a, b) - span[0]) / width, 3), round(100 * abs(b - a) / width, 3)


def gene_url(gene: str, ensembl_id: str | None = None) -> str:
    """Where a gene is described: its Ensembl page by id, else a search for its symbol at NCBI."""
    for name in (ensembl_id, gene):
        if name and _ENSEMBL.fullmatch(name):
            return f"https://www.ensembl.org/id/{name.partition('.')[0]}"
    return f"https://www.ncbi.nlm.nih.gov/gene/?term={quote(gene, safe='')}"


def gene_table(run: RunFiles) -> GeneRows | None:
    """Every ranked gene, best first, with those columns that hold any value."""
    genes = run.ranked_genes
    if genes is None or genes.empty:
        return None
    if "flags" in genes:
        genes = genes.assign(flags=genes["flags"].map(named_flags))
    names = [
        name
        for name in _GENE_COLUMNS
        if name in genes and (genes[name].notna() & (genes[name].astype(str) != "")).any()
    ]
    columns = [[_plain(v, _GENE_COLUMNS[n][1]) for v in genes[n].tolist()] for n in names]
    return GeneRows(
        columns=tuple(_GENE_COLUMNS[name] for name in names),
        rows=tuple(zip(*columns, strict=True)),
        keys=tuple(names),
    )


def _plain(value: Any, kind: str) -> Any:
    """A cell of the gene table as JSON can hold it: four digits are enough to sort and to read."""
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    if kind == "count":
        return int(value)
    if kind == "number":
        number_ = float(f"{float(value):.4g}")
        return number_ if abs(number_) != float("inf") else None
    if kind == "direction" and not isinstance(value, str):
        return "up" if value > 0 else "down" if value < 0 else "–"
    return joined(value) if isinstance(value, list | tuple) else str(value)


def unflagged_table(run: RunFiles, n: int = 20) -> Table | None:
    """The `n` best genes without a technical flag, with their ranks among all genes.

    None where no gene was flagged at all: then the list of all genes is the same.
    """
    genes = run.ranked_genes
    if genes is None or not has_flags(run):
        return None
    return _short_list(genes[[not flags_of(f) for f in genes["flags"]]].head(n))


def flagged_table(run: RunFiles, n: int = 30) -> Table | None:
    """Those of the `n` best genes that carry a technical flag, ranks kept; None if none does."""
    genes = run.ranked_genes
    if genes is None or not has_flags(run):
        return None
    best = genes.head(n)
    return _short_list(best[[bool(flags_of(f)) for f in best["flags"]]])


def _short_list(genes: pd.DataFrame) -> Table | None:
    """A few genes with what one reads first of each."""
    shown = genes.assign(flags=genes["flags"].map(named_flags))
    if {"ci_low", "ci_high"} <= set(shown.columns):
        shown["interval"] = [
            f"[{number(float(low))}, {number(float(high))}]" if pd.notna(low) else None
            for low, high in zip(shown["ci_low"], shown["ci_high"], strict=True)
        ]
    headings = {
        "rank": "Rank",
        "gene": "Gene",
        "flags": "Flags",
        "score": "Score",
        "interval": "95 % interval over donors",
        "direction": "Direction",
        "log_fold_change": "Log FC",
        "p_adjusted": "Adjusted p",
        "p_null": "Null p",
        "depth_correlation": "Depth correlation",
        "explained_share": "Explained by depth and batch",
    }
    return frame_table(shown, headings)


def flag_table(run: RunFiles) -> Table | None:
    """How many genes carry each flag: of the whole table, of the 30 and of the 100 best."""
    genes = run.ranked_genes
    if genes is None or not has_flags(run):
        return None
    flags = [flags_of(flag) for flag in genes["flags"]]
    tops = [n for n in (30, 100) if n < len(genes)]
    words = [w for w in FLAG_MEANINGS if any(w in f for f in flags)]
    words += sorted({w for f in flags for w in f} - set(words))
    rows: list[tuple[Any, ...]] = []
    for word in words:
        counts = [(sum(word in f for f in flags[:n]), n) for n in (*tops, len(flags))]
        texts = (f"{count:,} ({percent(count / n)})" for count, n in counts)
        rows.append((word.replace("_", " "), FLAG_MEANINGS.get(word, ""), *texts))
    tried = [(sum(bool(f) for f in flags[:n]), n) for n in (*tops, len(flags))]
    rows.append(("any flag", "", *(f"{count:,} ({percent(count / n)})" for count, n in tried)))
    headings = [*(f"Of the {n} best" for n in tops), f"Of all {len(flags):,}"]
    return make_table(["Flag", "Why be wary", *headings], rows)


def label_table(run: RunFiles, n: int = 10) -> Table | None:
    """The `n` best genes of each label of the category that results were split by.

    An asterisk marks a gene that is flagged in the table of all pairs: a label's own few pairs
    would call many a gene dependent on depth by chance.
    """
    if run.genes_by_label is None or run.genes_by_label.empty:
        return None
    genes = run.ranked_genes
    flagged: set[str] = set()
    if genes is not None and has_flags(run):
        flagged = set(genes["gene"][[bool(flags_of(f)) for f in genes["flags"]]].astype(str))
    rows: list[tuple[Any, ...]] = []
    by_label = run.genes_by_label.groupby("label", sort=False)
    for label, table in list(by_label)[:MOST_LABELS]:
        best = ranked(table)["gene"].astype(str).head(n)
        if len(best):
            names = ", ".join(f"{gene}*" if gene in flagged else gene for gene in best)
            rows.append((str(label), _pairs_of(table), names))
    return make_table(["Label", "Pairs", f"The {n} best genes"], rows)


def _pairs_of(table: pd.DataFrame) -> int | None:
    """How many pairs a table is of: the rows of phenotypes are in every one of them."""
    if "n_pairs" not in table:
        return None
    counts = table["n_pairs"][table["gene"].astype(str).str.startswith("@")].dropna()
    return int(counts.max()) if len(counts) else None
