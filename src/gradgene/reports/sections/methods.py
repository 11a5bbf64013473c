"""Methods and rankings side by side, and what is known of their genes from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from gradgene.reports.evidence import PUBLISHED_ZEROS
from gradgene.reports.numbers import number, percent
from gradgene.reports.run_files import RunFiles, ranked
from gradgene.reports.sections.tables import Table, frame_table, make_table
from gradgene.reports.verdict import promised_delta

__all__ = [
    "compared_table",
    "effect_table",
    "enrichment_table",
    "ledger_table",
    "recovery_table",
    "zero_table",
]

#: Gene sets beyond this many are in the file only.
MOST_SETS = 25


def compared_table(run: RunFiles, n: int = 30) -> Table | None:
    """The compared methods beside the main one: their best genes and how far they agree."""
    main = run.ranked_genes
    if main is None or not run.compared:
        return None
    best = set(main["gene"].head(n))
    ranks = main.set_index("gene")["rank"].astype(float)
    rows: list[tuple[Any, ...]] = [
        (run.method, ", ".join(map(str, main["gene"].head(10))), None, None)
    ]
    for method, table in run.compared.items():
        other = ranked(table)
        if other.empty:
            continue
        both = pd.concat([ranks, other.set_index("gene")["rank"].astype(float)], axis=1).dropna()
        # Pearson's correlation of ranks is Spearman's, and needs no scipy.
        agreement = both.rank().corr().iloc[0, 1] if len(both) > 2 else None
        shared = len(best & set(other["gene"].head(n)))
        rows.append((method, ", ".join(map(str, other["gene"].head(10))), shared, agreement))
    headings = ["Method", "Ten best genes", f"Of the {n} best, shared", "Rank correlation"]
    return make_table(headings, rows) if len(rows) > 1 else None


def recovery_table(run: RunFiles) -> Table | None:
    """How many of each ranking's best genes are in the list of known genes."""
    rows = [(name, int(top) if top.isdigit() else top, known) for name, top, known in run.recovered]
    rows.sort(key=lambda row: -float(row[2]))
    return make_table(["Ranking", "Best genes", "Of them known"], rows)


def ledger_table(run: RunFiles) -> Table | None:
    """How completely each method's scores add up, and what may be expected of it."""
    sizes: dict[str, dict[str, Any]] = {}
    for method, name, value in method_metrics(run.metrics or {}):
        if name.startswith("relative_delta_p"):
            sizes.setdefault(method, {})[name.removeprefix("relative_delta_p")] = value
    if run.method and run.method not in sizes and run.pairs is not None:
        delta = run.pairs.get("relative_delta", pd.Series(dtype=float)).dropna().abs()
        if len(delta):
            sizes[run.method] = {"50": delta.quantile(0.5), "99": delta.quantile(0.99)}
    rows = []
    for method, size in sizes.items():
        limit, worst = promised_delta(run, method), size.get("99")
        promise = "not complete" if limit is None else "complete"
        verdict = "none" if limit is None else "not measured"
        if limit is not None and worst is not None and pd.notna(worst):
            verdict = f"{'within' if float(worst) <= limit else 'beyond'} {number(limit)}"
        rows.append((method, promise, size.get("50"), worst, verdict))
    headers = ["Method", "Promise", "Median", "99th percentile", "Expectation at 99 %"]
    return make_table(headers, rows)


def zero_table(run: RunFiles) -> Table | None:
    """How many scores of single pairs are exactly zero, beside the published shares."""
    shares: dict[str, dict[str, float]] = {}
    for method, name, value in method_metrics(run.metrics or {}):
        if name.startswith("zero_") and pd.notna(value):
            shares.setdefault(method, {})[name.removeprefix("zero_")] = float(value)
    rows = [(method, *_percents(share)) for method, share in shares.items()]
    if not rows:
        return None
    rows.append(("published: Alzheimer's disease, microglia", *_percents(PUBLISHED_ZEROS)))
    return make_table(["Method", "Forward", "Backward", "Importance"], rows)


def _percents(share: Mapping[str, float]) -> tuple[str | None, ...]:
    kinds = ("forward", "backward", "importance")
    return tuple(percent(share[kind]) if kind in share else None for kind in kinds)


def method_metrics(metrics: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    """The metrics of attribution methods as (method, name, value)."""
    parts = [(key.split("/"), value) for key, value in metrics.items()]
    return [(p[1], p[2], value) for p, value in parts if len(p) == 3 and p[0] == "attribution"]


def effect_table(run: RunFiles) -> Table | None:
    """Spearman correlation of each ranking with the published effects, a column a label."""
    effects = run.effects
    if effects is None or effects["spearman"].notna().sum() == 0:
        return None
    wide = effects.pivot_table(index="ranking", columns="label", values="spearman", sort=False)
    median = wide.median(axis=1).sort_values(ascending=False, kind="stable")
    rows = [
        (str(name), float(median[name]), *map(float, wide.loc[name].to_numpy()))
        for name in median.index
    ]
    return make_table(["Ranking", "Median", *map(str, wide.columns)], rows)


def enrichment_table(run: RunFiles) -> Table | None:
    """The gene sets that the best genes are richest in, those of smallest adjusted p.

    Sets that hold none of the best genes are left to the file.
    """
    if run.enrichment is None:
        return None
    rows = (
        run.enrichment[run.enrichment["n_overlap"] > 0]
        .sort_values("p_adjusted", kind="stable")
        .head(MOST_SETS)
    )
    if "genes" in rows:
        rows = rows.assign(genes=rows["genes"].astype(str).str.replace(";", ", "))
    headings = {
        "gene_set": "Gene set",
        "collection": "Collection",
        "n_overlap": "Among the best",
        "n_set": "Of the set",
        "odds_ratio": "Odds ratio",
        "p_adjusted": "Adjusted p",
        "genes": "Genes",
    }
    return frame_table(rows, headings)
