"""What faithfulness says against a run, before anything is believed of it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gradgene.reports.numbers import number
from gradgene.reports.run_files import RunFiles

__all__ = ["faithfulness_cautions"]


def faithfulness_cautions(run: RunFiles) -> Iterator[tuple[str, str, str]]:
    """Level, title and text of a caution: scores that the model follows no more than chance."""
    found = run.faithfulness
    if found is None or run.method is None:
        return
    rows = found[(found["measure"] == "swap_gap_beyond_random") & (found["method"] == run.method)]
    for row in rows.to_dict("records"):
        value, low = float(row["value"]), float(row["ci_low"])
        # Beyond chance is an interval above 0, or a value above 0 where there is no interval.
        if math.isfinite(value) and (value <= 0 or low <= 0):
            said = number(value) + (f", at least {number(low)}" if math.isfinite(low) else "")
            yield (
                "warning",
                "The model does not follow these scores",
                f"Swapping genes in the order of {run.method} changes the model's output not "
                f"clearly more than in a random order (swap-gap beyond random {said}).",
            )
