"""What a run's numbers rest on, in words: donors, intervals, technical flags, published shares."""

from __future__ import annotations

from typing import Any

import pandas as pd

from gradgene.genes.statistics import MIN_DONORS
from gradgene.pairs import BASELINES
from gradgene.reports.run_files import RunFiles

__all__ = [
    "FLAG_MEANINGS",
    "PUBLISHED_ZEROS",
    "donors_of",
    "flags_of",
    "has_flags",
    "interval_note",
    "named_flags",
    "null_note",
    "swaps",
]

#: Flag → why a reader should be wary of the gene.
FLAG_MEANINGS = {
    "mitochondrial": "Encoded in mitochondria: rises in damaged cells",
    "ribosomal": "Ribosomal protein: follows RNA content and library quality",
    "haemoglobin": "Haemoglobin: comes from red blood cells",
    "cell_cycle": "Cell-cycle gene: follows the share of dividing cells",
    "ambient_suspect": "Often RNA from outside the cell",
    "tissue_foreign": "Made by cells that this tissue should not hold",
    "depth": "Its scores follow how many genes a cell shows",
    "batch": "Donor and batch explain much of its scores",
}

#: Shares of scores that are exactly zero in the published study (Alzheimer's disease, microglia).
PUBLISHED_ZEROS = {"forward": 0.59, "backward": 0.38, "importance": 0.03}


def flags_of(flags: Any) -> tuple[str, ...]:
    """The words of one gene's `flags`, none for null."""
    return tuple(w for w in flags.split(";") if w) if isinstance(flags, str) else ()


def named_flags(flags: Any) -> str | None:
    """One gene's flags as a reader wants them, such as `cell cycle, depth`; None without any."""
    return ", ".join(flags_of(flags)).replace("_", " ") or None


def has_flags(run: RunFiles) -> bool:
    """Whether any gene of the run carries a flag."""
    genes = run.ranked_genes
    return genes is not None and "flags" in genes and any(flags_of(f) for f in genes["flags"])


def donors_of(run: RunFiles) -> tuple[int | None, int | None]:
    """Donors of the main method's input and baseline cells, None where the run does not say."""
    metrics = run.metrics or {}
    found = (
        metrics.get(f"attribution/{run.method}/n_donors_{side}") for side in ("input", "baseline")
    )
    first, second = (None if n is None or pd.isna(n) else int(n) for n in found)
    genes = run.ranked_genes
    if first is None and genes is not None and "n_donors" in genes and len(genes):
        most = genes["n_donors"].max()
        first = None if pd.isna(most) else int(most)
    return first, second


def swaps(run: RunFiles) -> bool:
    """Whether the backward pass is the forward one with the two cells of a pair exchanged."""
    known = BASELINES.get(run.baseline or "cell_state")
    return known is None or known.swaps


def interval_note(run: RunFiles) -> str | None:
    """One sentence that says why no gene has an interval; None where genes have one."""
    genes = run.ranked_genes
    if genes is None or genes.empty or "ci_low" not in genes or genes["ci_low"].notna().any():
        return None
    if run.config is not None and not run.study.get("donor"):
        return (
            "No donor column is set (study.donor), so scores have no intervals: cells of one donor "
            "are not replicates."
        )
    first, second = donors_of(run)
    importance = (run.ranking_name or "").split("/")[1:2]
    if not swaps(run) and importance == ["forward"]:  # of input cells against nothing
        second = None
    if first == 0:
        return "The pairs have no donors on the input side, so scores have no intervals."
    if second == 0:
        return "The donors of the baseline cells are not known, so scores have no intervals."
    sides = [f"{_donors(first)} on the input side"] * (first is not None and first < MIN_DONORS)
    sides += [f"{_donors(second)} on the baseline side"] * (
        second is not None and second < MIN_DONORS
    )
    if not sides:
        return "This run's scores have no intervals over donors."
    need = f"an interval over donors needs {MIN_DONORS}" + " on both" * (second is not None)
    elsewhere = (
        " Those of the training donors are in attributions/genes_training.parquet (the model has "
        "seen these cells); `gradgene report` pools runs that hold out different donors."
    )
    return f"Scores have no intervals: {' and '.join(sides)}; {need}.{elsewhere}"


def null_note(run: RunFiles) -> str | None:
    """One sentence that says why no gene has a null p; None where genes have one."""
    genes, pairs = run.ranked_genes, run.pairs
    if genes is None or pairs is None or "p_null" not in genes or genes["p_null"].notna().any():
        return None
    inputs, baselines = (set(pairs[f"donor_{m}"].dropna()) for m in ("input", "baseline"))
    if inputs <= baselines:
        return None  # nothing was drawn, or exchanging labels changes nothing
    return (
        "Not every donor of input cells has baseline cells among the pairs: labels cannot be "
        "exchanged without exchanging donors, so there is no p against the null of exchanged "
        "labels. The intervals take the donors of both sides into account."
    )


def _donors(count: int | None) -> str:
    return f"{count} donor{'s' * (count != 1)}"
