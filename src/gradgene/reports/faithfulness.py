"""What faithfulness says against a run, before anything is believed of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradgene.reports.numbers import number
from gradgene.reports.run_files import RunFiles

__all__ = ["faithfulness_cautions"]


def faithfulness_cautions(run: RunFiles) -> Iterator[tuple[str, str, str]]:
    """Level, title and text of a caution: scores that the model follows no more than chance."""
    found = run.faithfulness
    if found is None or run.method is None:
        return
    rows = found[found["measure"] == "swap_gap"].to_dict("records")
    gaps = {str(row["method"]): (float(row["value"]), float(row["ci_high"])) for row in rows}
    if run.method not in gaps or "random" not in gaps:
        return
    value, chance = gaps[run.method][0], gaps["random"][0]
    # Beyond chance is beyond its interval, or beyond its value where there is none.
    if value <= np.nanmax(gaps["random"]):
        yield (
            "warning",
            "The model does not follow these scores",
            f"Swapping genes in the order of {run.method} changes the model's output no more than "
            f"in a random order (swap-gap {number(value)}, random {number(chance)}).",
        )
