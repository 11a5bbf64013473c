"""How steady a ranking is over pairs and donors, and what several methods agree on."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from gradgene.evaluation.agreement import disputed
from gradgene.reports.numbers import number, percent
from gradgene.reports.run_files import RunFiles
from gradgene.reports.sections.tables import Table, make_table

__all__ = [
    "agreement_table",
    "consensus_table",
    "disputed_table",
    "donor_stability_table",
    "stability_sentence",
    "stability_table",
]


def stability_sentence(run: RunFiles) -> str | None:
    """How many pairs are enough, in words; None where it was not measured or has no order."""
    metrics = run.metrics or {}
    if "stability/n_pairs" not in metrics or "stability/spearman" not in metrics:
        return None
    most = number(int(metrics["stability/n_pairs"]))
    enough = metrics.get("stability/n_pairs_enough")
    shared = percent(round(float(metrics["stability/top_overlap"]), 2))
    text = (
        f"Two rankings of {most} pairs each, of different input cells, have a rank correlation of "
        f"{number(metrics['stability/spearman'])} and share {shared} of their best genes. "
    )
    if metrics.get("stability/can_tell") == 0:
        return text + "Too few pairs to tell whether more would change it."
    if enough is None:
        return text + "The curve has not levelled off: more pairs would still change the ranking."
    return text + (
        f"{number(int(enough))} pairs already reach 95 % of that correlation: more pairs of these "
        "donors would change little."
    )


def stability_table(run: RunFiles) -> Table | None:
    """A row a number of pairs: means over halvings with the band of 90 % of them."""
    pairs = _kind(run, "pairs")
    if pairs is None:
        return None
    rows = [
        (int(str(n)), len(mine), _band(mine["spearman"]), _band(mine["top_overlap"]))
        for n, mine in pairs.groupby("n_pairs")
    ]
    return make_table(["Pairs", "Halvings", "Rank correlation", "Best genes in common"], rows)


def donor_stability_table(run: RunFiles) -> Table | None:
    """A row a donor left out: the others against all, and against the donor's own ranking."""
    donors = _kind(run, "donors")
    if donors is None:
        return None
    wide = donors.pivot(index="donor", columns="against", values=["spearman", "top_overlap"])
    columns = [(name, kind) for kind in ("all", "donor") for name in ("spearman", "top_overlap")]
    values = wide[columns].to_numpy(dtype=float)
    rows = [(str(donor), *row) for donor, row in zip(wide.index, values.tolist(), strict=True)]
    headings = [
        "Donor left out",
        "Correlation with all",
        "Best in common with all",
        "Correlation with the donor",
        "Best in common with the donor",
    ]
    return make_table(headings, rows)


def agreement_table(run: RunFiles, names: Sequence[str]) -> Table | None:
    """Spearman's correlation between rankings, every one of `names` against every other."""
    found = run.agreement
    if found is None or len(names) < 2:
        return None
    wide = found.pivot(index="first", columns="second", values="spearman")
    values = wide.reindex(index=list(names), columns=list(names)).to_numpy(dtype=float).tolist()
    rows = [(name, *row) for name, row in zip(names, values, strict=True)]
    return make_table(["Rank correlation", *names], rows)


def consensus_table(run: RunFiles, n: int = 30) -> Table | None:
    """The best genes of the consensus with their place in every method."""
    return _with_places(None if run.consensus is None else run.consensus.head(n))


def disputed_table(run: RunFiles) -> Table | None:
    """The genes that methods disagree about most."""
    return _with_places(None if run.consensus is None else disputed(run.consensus))


def _with_places(rows: pd.DataFrame | None) -> Table | None:
    if rows is None or rows.empty:
        return None
    places = [name for name in rows.columns if name.startswith("rank/")]
    columns = ["rank", "gene", "mean_rank", "rra_rho", "n_methods_in_top", "spread", *places]
    headings = ["Rank", "Gene", "Mean rank", "ρ", "Methods with it among the best", "Spread"]
    made = list(zip(*(rows[name].tolist() for name in columns), strict=True))
    return make_table([*headings, *(name.removeprefix("rank/") for name in places)], made)


def _kind(run: RunFiles, kind: str) -> pd.DataFrame | None:
    """The rows of one kind; None where there are none."""
    if run.stability is None:
        return None
    mine = run.stability[run.stability["kind"] == kind]
    return mine if len(mine) else None


def _band(values: pd.Series) -> str:
    low, high = values.quantile([0.05, 0.95])
    text = number(float(values.mean()))
    return text if len(values) < 2 else f"{text} [{number(float(low))}, {number(float(high))}]"
