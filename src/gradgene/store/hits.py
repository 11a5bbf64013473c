"""Best cells counted by sample, and labels compared with samples as the replicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradgene.errors import ConfigError, LabelError
from gradgene.genes.statistics import benjamini_hochberg

__all__ = ["HitRules", "HitTable", "count_hits", "hit_shares"]

#: Permutations whose label vectors are in memory together.
BLOCK = 500


@dataclass(frozen=True)
class HitRules:
    """What is too small to be compared, and how labels are permuted.

    Parameters
    ----------
    min_cells
        Samples with fewer cells of a label do not count for it.
    min_samples
        Labels with fewer counting samples are not tested.
    n_permutations, seed
        Of the labels over samples; 0 tests nothing.

    Raises
    ------
    ConfigError
        For negative numbers, or less than one cell or two samples.
    """

    min_cells: int = 25
    min_samples: int = 3
    n_permutations: int = 9999
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {"min_cells": 1, "min_samples": 2, "n_permutations": 0, "seed": 0}
        for name, least in limits.items():
            if getattr(self, name) < least:
                raise ConfigError(
                    "is too small",
                    where=name,
                    expected=f"at least {least}",
                    found=str(getattr(self, name)),
                )


@dataclass(frozen=True)
class HitTable:
    """Hit fractions by sample and label.

    Attributes
    ----------
    samples
        One row a sample and label: `data, sample, label, n_cells, hits, fraction, note`; the note
        says why a row does not count and is "" where it does. Parts of the same data share their
        samples; a sample of other data is another one.
    labels
        One row a label, highest first: `label, n_samples, n_too_small` (samples that do not count),
        `n_cells, fraction, others` (means over samples that count, of the label and of all other
        tested labels), `p, p_adjusted, note`. p is two-sided, of the difference of these means
        under permutation of labels over samples: within a sample where it has several labels,
        otherwise within its data. Null for labels that are not tested.
    """

    samples: pd.DataFrame
    labels: pd.DataFrame

    def to_pandas(self) -> pd.DataFrame:
        """A copy of `samples`."""
        return self.samples.copy()


def hit_shares(scores_n: np.ndarray, groups_n: np.ndarray, share: float) -> np.ndarray:
    """(cells,) how much of a hit each cell is, 0 to 1; they add up to `share` of every group.

    Parameters
    ----------
    scores_n
        (cells,) scores.
    groups_n
        (cells,) number of each cell's group.
    share
        Of the cells of a group, between 0 and 1.
    """
    hit_n = np.zeros(len(scores_n))
    order = np.argsort(groups_n, kind="stable")
    bounds = np.flatnonzero(np.diff(groups_n[order])) + 1
    for mine in np.split(order, bounds):
        if not len(mine):
            continue
        scores, wanted = scores_n[mine], share * len(mine)
        least = np.partition(scores, -int(np.ceil(wanted)))[-int(np.ceil(wanted))]
        above, equal = scores > least, scores == least
        hit_n[mine[above]] = 1.0
        hit_n[mine[equal]] = (wanted - above.sum()) / equal.sum()
    return hit_n


def count_hits(cells: pd.DataFrame, rules: HitRules, pooled: bool) -> HitTable:
    """Hit fractions of samples, and a permutation test of each label against the others.

    Parameters
    ----------
    cells
        Columns `data, sample, label` (null: the cell is not counted) and `hit`.
    rules
        Sizes and permutations.
    pooled
        Whether hits are of all data together: then labels may be exchanged between data too.

    Raises
    ------
    LabelError
        If no cell has both a sample and a label.
    """
    named = cells.dropna(subset=["data", "sample", "label"])
    if named.empty:
        raise LabelError("no cell has both", where="sample, label")
    grouped = named.groupby(["label", "data", "sample"], sort=True)["hit"]
    samples = grouped.agg(["size", "sum"]).reset_index()
    samples = samples.rename(columns={"size": "n_cells", "sum": "hits"})
    samples["fraction"] = samples["hits"] / samples["n_cells"]
    few = samples["n_cells"] < rules.min_cells
    counts = samples["label"].map(samples[~few].groupby("label").size()).fillna(0)
    rare = counts < rules.min_samples
    notes = np.where(rare, f"label has fewer than {rules.min_samples} samples that count", "")
    samples["note"] = np.where(few, f"fewer than {rules.min_cells} cells", notes)
    samples = samples["data sample label n_cells hits fraction note".split()]
    tested = samples[samples["note"] == ""]
    p = _permutation_p(tested, rules, pooled) if tested["label"].nunique() > 1 else {}
    rows = []
    for label, mine in samples.groupby("label", sort=True):
        used = mine[mine["note"] != f"fewer than {rules.min_cells} cells"]
        others = tested[tested["label"] != label]
        is_tested = label in p
        rows.append(
            {
                "label": label,
                "n_samples": len(used),
                "n_too_small": len(mine) - len(used),
                "n_cells": int(used["n_cells"].sum()),
                "fraction": used["fraction"].mean() if len(used) else np.nan,
                "others": others["fraction"].mean() if is_tested else np.nan,
                "p": p.get(label, np.nan),
                "note": _note(len(used), label in set(tested["label"]), is_tested, rules),
            }
        )
    labels = pd.DataFrame(rows)
    labels.insert(7, "p_adjusted", benjamini_hochberg(labels["p"].to_numpy(dtype=np.float64)))
    labels = labels.sort_values("fraction", ascending=False, kind="stable", ignore_index=True)
    return HitTable(samples, labels)


def _note(n_samples: int, is_large: bool, is_tested: bool, rules: HitRules) -> str:
    if not is_large:
        return f"{n_samples} samples that count, {rules.min_samples} needed"
    if is_tested:
        return ""
    return "no permutations" if rules.n_permutations == 0 else "no other label to compare with"


def _permutation_p(tested: pd.DataFrame, rules: HitRules, pooled: bool) -> dict[object, float]:
    """Two-sided p of each label's mean fraction against that of all others.

    Labels are permuted within blocks, so that what a sample or a data set adds to all of its
    fractions says nothing.
    """
    if rules.n_permutations == 0:
        return {}
    known, label_s = np.unique(tested["label"].astype(str), return_inverse=True)
    names = dict(zip(tested["label"].astype(str), tested["label"], strict=True))
    fraction_s = tested["fraction"].to_numpy()
    unit = tested.groupby(["data", "sample"], sort=False).ngroup().to_numpy()
    several = np.bincount(unit)[unit] > 1
    data = np.zeros(len(tested), int) if pooled else pd.factorize(tested["data"])[0]
    blocks = np.where(several, unit, unit.max() + 1 + data)
    seen_l = _differences(label_s[None], fraction_s, len(known))[0]
    rng = np.random.default_rng(rules.seed)
    as_large_l = np.zeros(len(known), dtype=np.int64)
    for start in range(0, rules.n_permutations, BLOCK):
        n = min(BLOCK, rules.n_permutations - start)
        drawn_bs = np.tile(label_s, (n, 1))
        for block in np.unique(blocks):
            mine = np.flatnonzero(blocks == block)
            drawn_bs[:, mine] = rng.permuted(drawn_bs[:, mine], axis=1)
        null_bl = _differences(drawn_bs, fraction_s, len(known))
        # Sums in another order differ in the last digits; equal differences must count.
        as_large_l += (np.abs(null_bl) >= np.abs(seen_l) * (1 - 1e-9) - 1e-12).sum(axis=0)
    p_l = (1 + as_large_l) / (1 + rules.n_permutations)
    return {names[name]: float(p) for name, p in zip(known, p_l, strict=True)}


def _differences(label_bs: np.ndarray, fraction_s: np.ndarray, n_labels: int) -> np.ndarray:
    """(permutations, labels) mean fraction of each label minus that of all others."""
    columns = []
    for label in range(n_labels):
        has_bs = label_bs == label
        n_b, total_b = has_bs.sum(axis=1), has_bs @ fraction_s
        rest = (fraction_s.sum() - total_b) / (len(fraction_s) - n_b)
        columns.append(total_b / n_b - rest)
    return np.stack(columns, axis=1)
