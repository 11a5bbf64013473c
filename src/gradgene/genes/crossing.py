"""Donors on both sides of pairs: what the scores of several donors of input cells have in common.

Donors of input cells that are compared with the same few donors share these donors' peculiarities,
so their mean scores are no independent draws. What each donor does to the mean score is counted
over all the pairs that it is in, on either side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gradgene.errors import RankingError

__all__ = ["Crossing", "CrossingSums"]

#: A pair counts for its input donor and for its baseline donor; where they are one, also as both.
SIDES = ("input", "baseline", "both")


@dataclass(frozen=True)
class Crossing:
    """In which pairs each donor is, on either side, and how much each pair weighs.

    Attributes
    ----------
    rows
        One row a sum: `side` ("input" or "baseline": pairs with such a cell of the donor; "both":
        pairs with both), `donor`, and `label` of the input cells, None for the pairs of all labels.
    row_pk
        (pairs, entries) int64 rows that a pair is counted in, -1 for none.
    weight_pk
        (pairs, entries) float64 1 over the pairs of the input cell's donor (and label).

    Raises
    ------
    RankingError
        If the parts do not fit each other.
    """

    rows: pd.DataFrame
    row_pk: np.ndarray
    weight_pk: np.ndarray

    def __post_init__(self) -> None:
        if self.row_pk.shape != self.weight_pk.shape or self.row_pk.max(initial=-1) >= len(
            self.rows
        ):
            raise RankingError("rows and weights of crossed donors do not fit each other")

    @classmethod
    def of(
        cls, inputs_p: np.ndarray, baselines_p: np.ndarray, labels_p: np.ndarray | None = None
    ) -> Crossing:
        """Of the donors (pairs,) of both members, "" where unknown, and the input cells' labels."""
        scopes = [np.full(len(inputs_p), "", dtype=object)]
        if labels_p is not None:
            scopes.append(labels_p.astype(object))
        donors = {"input": inputs_p, "baseline": baselines_p, "both": baselines_p}
        counted = {
            "input": inputs_p != "",
            "baseline": (inputs_p != "") & (baselines_p != ""),
            "both": (inputs_p != "") & (baselines_p == inputs_p),
        }
        parts, weights = [], []
        for number, label_p in enumerate(scopes):
            alike = pd.DataFrame({"donor": inputs_p, "label": label_p}).groupby(["donor", "label"])
            weight_p = 1.0 / np.bincount(alike.ngroup())[alike.ngroup()]
            inside_p = (label_p != "") | (number == 0)
            for side in SIDES:
                key = {"side": side, "donor": donors[side], "label": label_p, "scope": number}
                parts.append(pd.DataFrame(key).assign(counts=counted[side] & inside_p))
                weights.append(weight_p)
        entries = pd.concat(parts, ignore_index=True)
        names = ["scope", "side", "donor", "label"]
        rows = entries.loc[entries["counts"], names].drop_duplicates().sort_values(names)
        numbered = rows.assign(row=np.arange(len(rows)))
        row_k = entries.merge(numbered, on=names, how="left")["row"].fillna(-1).to_numpy(np.int64)
        row_k[~entries["counts"].to_numpy()] = -1
        labels = rows["label"].where(rows["scope"] == 1, None).astype(object)
        return cls(
            rows.assign(label=labels)[["side", "donor", "label"]].reset_index(drop=True),
            row_k.reshape(len(parts), -1).T.copy(),
            np.stack(weights, axis=1),
        )


@dataclass(frozen=True)
class CrossingSums:
    """Weighted sums of scores over the pairs of each donor.

    Attributes
    ----------
    rows
        As of `Crossing`, with `label` None throughout.
    sums_rf
        (rows, features) sums of weight x score.
    weights_r
        (rows,) sums of weights.
    """

    rows: pd.DataFrame
    sums_rf: np.ndarray
    weights_r: np.ndarray

    def side(self, name: str) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """Donors of one side, and their sums (donors, features) and weights (donors,)."""
        mine = (self.rows["side"] == name).to_numpy() & (self.weights_r > 0)
        donors = tuple(self.rows.loc[mine, "donor"].astype(str))
        return donors, self.sums_rf[mine], self.weights_r[mine]
