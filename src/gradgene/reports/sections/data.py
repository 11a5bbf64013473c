"""What was read, how it was paired, and what the pairs were expected to cost."""

from __future__ import annotations

from gradgene.reports.evidence import donors_of
from gradgene.reports.numbers import number
from gradgene.reports.run_files import RunFiles
from gradgene.reports.sections.tables import Table, frame_table, joined, make_table

__all__ = ["cost_table", "data_facts", "data_table", "skipped_table", "strata_table"]

#: More rows than this are no table to read; the files have them all.
MOST_ROWS = 60


def data_facts(run: RunFiles) -> list[tuple[str, str]]:
    """What was read and how it was paired, as (name, value)."""
    report, study = run.data_report or {}, run.study
    metrics = run.metrics or {}
    pairs = metrics.get("pairs/n_pairs", None if run.pairs is None else len(run.pairs))
    filters = study.get("filters")
    facts = {
        "File": run.section("data").get("path"),
        "Cells read": report.get("n_cells_read"),
        "Cells kept": report.get("n_cells_kept"),
        "Filters": "; ".join(f"{k}: {joined(v)}" for k, v in filters.items())
        if isinstance(filters, dict)
        else None,
        "Split": report.get("split"),
        "Target": study.get("target"),
        "Input label": study.get("input"),
        "Baseline": study.get("baseline"),
        "Matched on": joined(study.get("match_on")),
        "Matching": _matching(run),
        "Donor column": study.get("donor"),
        "Donors of the pairs": _donors(run),
        "Batch column": study.get("batch"),
        "Pairs": pairs,
        "Method": run.method,
    }
    return [(name, number(value)) for name, value in facts.items() if value not in (None, "")]


def _matching(run: RunFiles) -> str:
    """How a baseline was drawn, from the `pairs` section."""
    pairs = run.section("pairs")
    kinds = {"random": "random control", "nearest": "nearest control"}
    words = [kinds.get(str(pairs.get("matching")), "")]
    words.append("of the same donor" if pairs.get("donors") == "same" else "")
    words.append("labels permuted" if pairs.get("permute_labels") is not None else "")
    return ", ".join(word for word in words if word)


def _donors(run: RunFiles) -> str:
    """Donors on the two sides of the main method's pairs."""
    sides = zip(donors_of(run), ("input", "baseline"), strict=True)
    return ", ".join(f"{number(n)} {side}" for n, side in sides if n is not None)


def data_table(run: RunFiles) -> Table | None:
    """Cells and donors of each label in each split."""
    rows = (run.data_report or {}).get("table") or []
    headings = {"split": "Split", "label": "Label", "n_cells": "Cells", "n_donors": "Donors"}
    return make_table(list(headings.values()), [[row.get(key) for key in headings] for row in rows])


def strata_table(run: RunFiles) -> Table | None:
    """Pairs, cells and donors of each stratum, and the input cells that found no partner."""
    headings = {
        "split": "Split",
        "stratum": "Stratum",
        "n_pairs": "Pairs",
        "n_inputs": "Input cells",
        "n_baselines": "Baseline cells used",
        "n_controls": "Baseline cells there",
        "n_donors_input": "Donors, input",
        "n_donors_baseline": "Donors, baseline",
        "n_skipped": "Input cells skipped",
        "reason": "Why skipped",
    }
    return frame_table(None if run.strata is None else run.strata.head(MOST_ROWS), headings)


def cost_table(run: RunFiles) -> Table | None:
    """Time and memory of each attribution, estimated before the work and measured."""
    headings = {
        "method": "Method",
        "split": "Split",
        "n_pairs": "Pairs",
        "estimated_seconds": "Seconds, estimated",
        "seconds": "Seconds, measured",
        "estimated_peak_mb": "Peak MB, estimated",
        "peak_mb": "Peak MB, measured",
    }
    return frame_table(run.plan, headings)


def skipped_table(run: RunFiles) -> Table | None:
    """Pairs that were left out of the results while running, and why."""
    headings = {
        "method": "Method",
        "split": "Split",
        "pair": "Pair",
        "input": "Input cell",
        "baseline": "Baseline cell",
        "reason": "Why skipped",
    }
    rows = run.skipped_pairs
    return frame_table(None if rows is None else rows.head(MOST_ROWS), headings)
