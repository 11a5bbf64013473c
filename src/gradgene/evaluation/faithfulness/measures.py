"""The measures of faithfulness by name: which way is better, and who proposed them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradgene.evaluation.faithfulness.per_pair import MIN_UNITS, ratio, ratio_interval

__all__ = ["MEASURES", "FaithfulnessMeasure", "Units", "measured"]


@dataclass(frozen=True)
class FaithfulnessMeasure:
    """What a measure is called and asks, which way is better and where it is from."""

    title: str
    higher_is_better: bool
    asks: str
    source: str

    @property
    def arrow(self) -> str:
        """↑ where higher is better, ↓ where lower is."""
        return "↑" if self.higher_is_better else "↓"


#: Name in tables and metrics -> measure, in the order in which they are shown.
MEASURES = {
    "swap_gap": FaithfulnessMeasure(
        "Swap-gap",
        True,
        "how much longer f stays with the input if the lowest scores are swapped first, as a share "
        "of what all genes do; random scores have about 0",
        "this project",
    ),
    "swap_gap_beyond_random": FaithfulnessMeasure(
        "Swap-gap beyond random",
        True,
        "the same less that of random scores, pair by pair",
        "this project",
    ),
    "infidelity_scaled": FaithfulnessMeasure(
        "Infidelity, scaled",
        False,
        "what sums of scores leave unexplained of swapping random sets of genes, at the best "
        "scale: 0 nothing, 1 all; scores that are merely positive do well, as expression shows",
        "Yeh et al. 2019",
    ),
    "infidelity": FaithfulnessMeasure(
        "Infidelity",
        False,
        "the same without scaling, in squared units of f",
        "Yeh et al. 2019",
    ),
    "sensitivity_max": FaithfulnessMeasure(
        "Sensitivity, maximum",
        False,
        "the largest relative change of the scores when one gene in twenty moves by one bin",
        "Yeh et al. 2019",
    ),
    "comprehensiveness": FaithfulnessMeasure(
        "Comprehensiveness",
        True,
        "how far f falls when the highest scores are deleted from the input, mean of 1, 5, 10, 20 "
        "and 50 %",
        "DeYoung et al. 2020",
    ),
    "sufficiency": FaithfulnessMeasure(
        "Sufficiency",
        False,
        "how far f falls when all but the highest scores are deleted, same shares",
        "DeYoung et al. 2020",
    ),
    "aopc": FaithfulnessMeasure(
        "AOPC",
        True,
        "mean fall of f as the genes of the input are deleted, the highest scores first",
        "Samek et al. 2017",
    ),
    "aopc_normalised": FaithfulnessMeasure(
        "AOPC, normalised",
        True,
        "the same from 0, the worst order found on this model and these cells, to 1, the best",
        "Edin et al. 2025",
    ),
    "relative_delta_p50": FaithfulnessMeasure(
        "Relative delta, median",
        False,
        "what the scores of a pair leave unexplained of Δf = f_input - f_baseline, over "
        "max(|Δf|, 0.01 Σ|score|); the worse of both directions",
        "completeness; Sundararajan et al. 2017",
    ),
    "relative_delta_p99": FaithfulnessMeasure(
        "Relative delta, 99 %",
        False,
        "the same, the value that 99 % of pairs stay below",
        "completeness; Sundararajan et al. 2017",
    ),
}


@dataclass(frozen=True)
class Units:
    """Which pairs are no replicates of each other.

    Attributes
    ----------
    inputs_p
        (pairs,) number of each pair's input cell.
    donors_p
        (pairs,) number of its donor; None without donors.
    """

    inputs_p: np.ndarray
    donors_p: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Units:
        """Those of the pairs at these positions, or where this is True."""
        return Units(self.inputs_p[rows], None if self.donors_p is None else self.donors_p[rows])

    @property
    def n_donors(self) -> int:
        """Distinct donors; 0 without any."""
        return 0 if self.donors_p is None else len(np.unique(self.donors_p))

    @property
    def of_interval(self) -> tuple[str, np.ndarray]:
        """What an interval is over, "donors" where there are enough of them, and each pair's."""
        if self.donors_p is not None and self.n_donors >= MIN_UNITS:
            return "donors", self.donors_p
        return "input cells", self.inputs_p


def measured(
    method: str,
    measure: str,
    top_p: Tensor,
    bottom_p: Tensor | None,
    units: Units,
    seed: int,
) -> dict[str, Any]:
    """One row of the table of faithfulness: Σ top / Σ bottom, or the mean, with its interval.

    Parameters
    ----------
    method, measure
        What was measured; `measure` is one of `MEASURES`.
    top_p, bottom_p
        (pairs,) numbers of the pairs on the CPU, NaN where there is none; a `bottom_p` of None is 1
        for each.
    units
        Of the pairs. An interval is over donors where there are three; otherwise over input cells,
        and then says how much the draw of pairs matters but nothing of other donors.
    seed
        What random draws were made with.

    Returns
    -------
    dict
        `method, measure, value, ci_low, ci_high, interval_over, n_pairs, n_donors,
        higher_is_better, seed`; a value that there is none of is NaN.
    """
    bottom_p = torch.ones_like(top_p) if bottom_p is None else bottom_p
    kept_p = torch.isfinite(top_p) & torch.isfinite(bottom_p)
    top_p, bottom_p, units = top_p[kept_p], bottom_p[kept_p], units.take(kept_p.numpy())
    over, unit_p = units.of_interval
    low, high = ratio_interval(top_p, bottom_p, unit_p)
    return {
        "method": method,
        "measure": measure,
        "value": ratio(top_p, bottom_p),
        "ci_low": low,
        "ci_high": high,
        "interval_over": over,
        "n_pairs": len(top_p),
        "n_donors": units.n_donors,
        "higher_is_better": MEASURES[measure].higher_is_better,
        "seed": seed,
    }
