"""The controls of a run: random weights, shuffled genes, permuted labels."""

from __future__ import annotations

import pandas as pd

from gradgene.reports.numbers import number
from gradgene.reports.run_files import RunFiles
from gradgene.reports.sections.tables import Table, make_table

__all__ = ["sanity_sentence", "sanity_table"]

#: Check and step in words; the steps of the cascade are told by their depth.
NAMES = {
    ("reference", "trained"): "The trained model itself",
    ("reference", "two halves"): "Two halves of the pairs (what there is to lose)",
    ("gene_shuffle", "same gene"): "Genes shuffled, by gene",
    ("gene_shuffle", "same values"): "Genes shuffled, by values",
    ("label_permutation", "permuted labels"): "Labels permuted within donors",
    ("label_relearning", "trained on permuted labels"): "A model trained on permuted labels",
}
HEADINGS = (
    "Control",
    "Draws",
    "Rank correlation",
    "Of magnitudes",
    "Between genes seen equally often",
    "Size",
    "Genes with p < 0.05",
)


def sanity_table(run: RunFiles) -> Table | None:
    """A row a control: medians over draws, with the lowest and the highest of them."""
    found = run.sanity
    if found is None:
        return None
    rows = []
    for (check, step), mine in found.groupby(["check", "step"], sort=False):
        name = NAMES.get((str(check), str(step)), f"Random weights: up to {step}")
        if check == "randomisation" and mine["depth"].max() == found["depth"].max():
            name = "Random weights throughout"
        notes = [str(note) for note in mine["note"].unique() if note]
        rows.append(
            (
                name + (f" (not made: {notes[0]})" if notes else ""),
                len(mine),
                _range(mine["spearman"]),
                _range(mine["spearman_abs"]),
                _range(mine["spearman_abs_given_share"]),
                _middle(mine["relative_size"]),
                _middle(mine["p_share"]),
            )
        )
    return make_table(HEADINGS, rows)


def sanity_sentence(run: RunFiles) -> str | None:
    """The verdict in words; None where nothing was checked."""
    metrics, found = run.metrics or {}, run.sanity
    if found is None:
        return None
    size, passed = metrics.get("sanity/randomised"), metrics.get("sanity/passed")
    if passed is None:
        return (
            "NO VERDICT: in some or all draws of random weights the scores have no order to "
            "compare, so that this run has not been shown to explain what the model learnt."
        )
    threshold = number(float(found["threshold"].iloc[0]))
    kind = "magnitudes of the scores" if found["judged_by"].iloc[0] == "spearman_abs" else "scores"
    middle = metrics.get("sanity/randomised_median")
    said = "median of the draws" if middle is None else f"median of the draws: {number(middle)}"
    return (
        f"The check {'passed' if passed else 'FAILED'}: with random weights throughout, the {kind} "
        f"have a rank correlation of {'' if middle is None else 'at most '}{number(size)} with the "
        f"trained model's, where at most {threshold} in either direction is sane ({said})."
    )


def _range(values: pd.Series) -> str:
    known = values.dropna()
    if known.empty:
        return "–"
    text = number(float(known.median()))
    if len(known) > 1:
        text += f" [{number(float(known.min()))}, {number(float(known.max()))}]"
    return text


def _middle(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.median()) if len(known) else None
