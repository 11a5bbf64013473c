"""Averaged controls: one cell a stratum that stands for all of its cells of the baseline's label.

Where the two cells of a pair must be of one donor, one cell a stratum and donor.

What is averaged are prepared (log-normalised) values, gene by gene, zeros included: first over the
cells of a donor, then over donors, so that a donor with many cells does not dominate. The mean is
tokenised like any cell, so a gene is in it where its mean reaches the first bin edge.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import sparse

from gradgene.cells import Cells
from gradgene.errors import PairError
from gradgene.pairs.plan import PairPlan

__all__ = ["with_mean_controls"]


def with_mean_controls(cells: Cells, plan: PairPlan) -> tuple[Cells, PairPlan]:
    """Append the mean of each stratum's controls and make it the baseline of the pairs there.

    The plan keeps one pair an input cell, the first, since all baselines of a cell are now the
    same. Where controls differ in a label, the mean has the one with the largest share (donors
    counting alike); its donor, and a batch that is no phenotype, is that of its cells, or missing
    if they are of several.

    Raises
    ------
    PairError
        If the cells are not prepared, or the stratum of an input cell has no control.
    """
    if cells.schema.values != "lognorm":
        raise PairError("the cells were not prepared", fix="call tokenizer.prepare(cells) first")
    table = plan.table.drop_duplicates("input_row").reset_index(drop=True)
    donors = table["donor_input"] if plan.same_donor else [""] * len(table)
    keys = list(zip(table["stratum"], donors, strict=True))
    groups = sorted(set(keys))
    controls = [_controls(cells, plan, *group) for group in groups]
    for (stratum, of_donor), mine in zip(groups, controls, strict=True):
        if not len(mine):
            cell = table["input"].iloc[keys.index((stratum, of_donor))]
            raise PairError(
                f"no control cell to average for {cell!r}",
                where="baseline=mean",
                expected="a cell of the baseline's label that equals it on study.match_on",
                found=f"none in {stratum!r}" + f" of donor {of_donor!r}" * bool(of_donor),
            )
    means = [
        _mean(cells, mine, " | ".join(filter(None, group)))
        for group, mine in zip(groups, controls, strict=True)
    ]
    appended = replace(
        cells,
        matrix_ng=sparse.vstack([cells.matrix_ng, *(row for row, _ in means)], format="csr"),
        obs=pd.concat([cells.obs, *(facts for _, facts in means)]),
    )
    row_of = {group: len(cells) + i for i, group in enumerate(groups)}
    rows = np.array([row_of[key] for key in keys], dtype=np.int64)
    donor = cells.schema.donor
    table = table.assign(
        pair=np.arange(len(table)),
        baseline=appended.obs.index.to_numpy()[rows],
        baseline_row=rows,
        donor_baseline=_or_none(appended.obs[donor].to_numpy()[rows]) if donor else None,
        batch_baseline=None,  # its cells may be of several
        distance=np.nan,
    )
    averaged = {row_of[group]: mine for group, mine in zip(groups, controls, strict=True)}
    donors_of = {row: _donors(cells, behind) for row, behind in averaged.items()}
    return appended, replace(
        plan,
        table=table,
        averaged={**plan.averaged, **averaged},
        averaged_donors={**plan.averaged_donors, **donors_of},
    )


def _controls(cells: Cells, plan: PairPlan, stratum: str, donor: str) -> np.ndarray:
    """Positions of the controls of a stratum; of one donor alone, if it is not ""."""
    rows = plan.controls.get(stratum, np.empty(0, dtype=np.int64))
    if not donor:
        return rows
    assert cells.schema.donor is not None  # the sampler refuses pairs of one donor without donors
    return rows[(cells.obs[cells.schema.donor].iloc[rows] == donor).to_numpy()]


def _donors(cells: Cells, rows: np.ndarray) -> tuple[str, ...]:
    """Names of the donors of the cells at `rows`; none without a donor column."""
    donor = cells.schema.donor
    return tuple(sorted(cells.obs[donor].iloc[rows].dropna().unique())) if donor else ()


def _mean(cells: Cells, rows: np.ndarray, stratum: str) -> tuple[sparse.csr_matrix, pd.DataFrame]:
    """Expression (1, genes) and obs of the mean of the cells at `rows`."""
    obs, donor = cells.obs.iloc[rows], cells.schema.donor
    weights_n = _weights(obs[donor] if donor else None, len(rows))
    # In float64: a sum over many cells of float32 loses digits.
    values_1g = sparse.csr_matrix(weights_n[None]) @ cells.matrix_ng[rows].astype(np.float64)
    values_1g = sparse.csr_matrix(values_1g, dtype=np.float32)
    values_1g.sort_indices()
    facts = {column: _largest_share(obs[column], weights_n) for column in obs}
    batch = cells.schema.batch
    for column in filter(None, (donor, None if batch in cells.schema.phenotypes else batch)):
        facts[column] = obs[column].iloc[0] if obs[column].nunique(dropna=False) == 1 else np.nan
    name = f"mean of {len(rows)} control cells ({stratum})"
    return values_1g, pd.DataFrame(facts, index=[name], dtype=object)


def _weights(donors: pd.Series | None, n: int) -> np.ndarray:
    """(cells,) weights that add up to 1: every donor counts alike, and every cell of a donor."""
    if donors is None:
        return np.full(n, 1 / n)
    named = donors.fillna("")
    n_cells = named.map(named.value_counts()).to_numpy(dtype=float)
    weights: np.ndarray = 1 / (n_cells * named.nunique())
    return weights


def _largest_share(labels: pd.Series, weights_n: np.ndarray) -> object:
    """The label of the largest total weight, the first by name of equals; NaN if all lack one."""
    known = labels.notna().to_numpy()
    if not known.any():
        return np.nan
    share = pd.Series(weights_n[known]).groupby(labels[known].astype(str).to_numpy()).sum()
    return str(share.index[int(np.argmax(share.round(12)))])


def _or_none(donors: np.ndarray) -> np.ndarray:
    return np.array([d if isinstance(d, str) else None for d in donors], dtype=object)
