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
        "Donors of the pairs": _donors(run) if study.get("donor") else None,
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
    """Cells and donors of each label, a column a split."""
    rows = (run.data_report or {}).get("table") or []
    splits = list(dict.fromkeys(str(row.get("split")) for row in rows))
    # The labels that are compared come first.
    asked = [run.study.get("input"), run.study.get("baseline")]
    labels = dict.fromkeys(str(row.get("label")) for row in rows)
    order = sorted(labels, key=lambda label: asked.index(label) if label in asked else len(asked))
    headings = ["Label"]
    for split in splits:
        headings += [f"{split.capitalize()} cells", f"{split.capitalize()} donors"]
    found = {(str(row.get("split")), str(row.get("label"))): row for row in rows}
    table = [
        (
            label,
            *(
                found.get((split, label), {}).get(key)
                for split in splits
                for key in ("n_cells", "n_donors")
            ),
        )
        for label in order
    ]
    # Without donors their columns say nothing.
    kept = [i for i in range(len(headings)) if i == 0 or any(row[i] is not None for row in table)]
    return make_table([headings[i] for i in kept], [[row[i] for i in kept] for row in table])


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
