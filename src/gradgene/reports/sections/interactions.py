"""Genes that the model reads together."""

from __future__ import annotations

from gradgene.reports.run_files import RunFiles
from gradgene.reports.sections.tables import Table, frame_table

__all__ = ["interaction_rows"]

#: Pairs beyond this many are in the file only.
MOST_PAIRS = 25


def interaction_rows(run: RunFiles) -> Table | None:
    """The pairs of genes with the largest excess interaction; None where none was measured."""
    if run.interactions is None:
        return None
    rows = run.interactions.sort_values("rank", kind="stable").head(MOST_PAIRS)
    headings = {
        "gene_a": "Gene",
        "gene_b": "and gene",
        "interaction": "Interaction",
        "ci_low": "95 % from",
        "ci_high": "to",
        "expected": "Expected of single effects",
        "excess": "Excess",
        "p": "p",
        "p_adjusted": "Adjusted p",
        "n_moved": "Pairs of cells that differ in both",
    }
    return frame_table(rows, headings)
