"""The pruning curves of several runs in one figure: a sweep over methods, baselines or rankings."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd

from gradgene.genes import mean_interval
from gradgene.plotting import CONTROLS
from gradgene.pruning import RANDOM_WEIGHTS
from gradgene.reports import RunFiles

__all__ = ["joined_curves", "over_repeats", "run_labels", "run_settings"]

#: Sections of a configuration that change no curve, or only by chance.
NOT_COMPARED = tuple("paths sweep logger report callbacks trainer evaluation flags".split())
#: Facts in which runs may differ and still be repeats of each other.
REPEATS = ("seed", "holdout_donors", "name", "compare", "keep_every_s")
#: Those of them that a table of runs shows: (section, key).
VARIED = (("study", "seed"), ("data", "holdout_donors"))
COLUMNS = ["ranking", "order", "ratio", "arm", "metric"]
#: So many runs have an interval of their own.
LEAST = 3


def run_labels(runs: Sequence[RunFiles]) -> list[str]:
    """One label for each run, made of what differs between them; repeats share one.

    Method, baseline and importance come first; other settings are added as `key=value` only where
    those do not tell two runs apart. Runs that differ in seed, held-out donors or name alone are
    repeats. Runs that do not differ are called by their ranking.
    """
    facts = _facts(runs)
    chosen = _telling(facts)
    if not chosen:
        return [str(run.main_ranking or run.ranking_name or run.path.name) for run in runs]
    named = ("method", "baseline", "ranking")
    labels = [
        ", ".join(
            str(fact.get(key)) if key in named else f"{key}={fact.get(key)}" for key in chosen
        )
        for fact in facts
    ]
    # The attribution method "random" is not the control of that name.
    return [
        str(run.ranking_name) if label in CONTROLS and run.ranking_name not in CONTROLS else label
        for label, run in zip(labels, runs, strict=True)
    ]


def run_settings(runs: Sequence[RunFiles]) -> pd.DataFrame:
    """A row a run, a column for each setting that tells the runs apart.

    Those of `run_labels` come first, then seeds and held-out donors where they differ.
    """
    facts = [
        fact
        | {f"{section}.{key}": _plain(run.section(section).get(key)) for section, key in VARIED}
        for run, fact in zip(runs, _facts(runs), strict=True)
    ]
    varied = [f"{section}.{key}" for section, key in VARIED]
    chosen = _telling([{k: v for k, v in fact.items() if k not in varied} for fact in facts])
    chosen += [key for key in varied if len({fact[key] for fact in facts}) > 1]
    return pd.DataFrame([{key: fact.get(key) for key in chosen} for fact in facts])


def over_repeats(found: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Means over the runs of one label, with intervals over runs; see `joined_curves`.

    Parameters
    ----------
    found
        A row a run and whatever `keys` tell apart: `value` and maybe `ci_low, ci_high`.
    keys
        Columns that stay apart.
    """
    rows = [
        dict(zip(keys, key, strict=True)) | _over_runs(of)
        for key, of in found.groupby(list(keys), sort=False)
    ]
    return pd.DataFrame(rows, columns=[*keys, "value", "ci_low", "ci_high", "n_runs"])


def joined_curves(runs: Sequence[RunFiles]) -> pd.DataFrame | None:
    """The main ranking's curve of every run and the controls, one curve each, for one figure.

    Draws are averaged within a run and then runs of one label with each other. The interval is a
    t-interval over runs where there are three, that of its donors for a single run, and none for
    two. A model of random weights, where the ranking leaks, is beside it. Controls are those of all
    runs together, each shown once. `random_matched` is matched to one ranking, so it is shown only
    where all runs are repeats.

    Returns None where no run has a curve of its main ranking.
    """
    labels = run_labels(runs)
    several = len(set(labels)) > 1
    parts = []
    for i, (run, label) in enumerate(zip(runs, labels, strict=True)):
        if run.curves is None:
            continue
        names = {f"{run.main_ranking}{more}": f"{label}{more}" for more in ("", RANDOM_WEIGHTS)}
        names |= {name: name for name in CONTROLS if not (several and name == "random_matched")}
        own = run.curves[run.curves["ranking"].isin(list(names))]
        parts.append(own.assign(ranking=own["ranking"].map(names), run=i))
    frame = pd.concat(parts) if parts else pd.DataFrame(columns=COLUMNS)
    if frame["ranking"].isin(CONTROLS).all():
        return None
    values = ["value", *(c for c in ("ci_low", "ci_high") if c in frame)]
    by_run = frame.groupby([*COLUMNS, "run"], sort=False)[values].mean().reset_index()
    joined = over_repeats(by_run, COLUMNS)
    if "rank_source" in frame:
        leaking = set(frame.loc[frame["rank_source"] == "per_pair", "ranking"])
        source = joined["ranking"].isin(leaking).map({True: "per_pair", False: "held_out"})
        joined = joined.assign(rank_source=source)
    # Attributions first, the controls in one order, whatever each run had.
    place = joined["ranking"].map({name: i for i, name in enumerate(CONTROLS)}).fillna(-1)
    joined = joined.assign(place=place)
    return joined.sort_values("place", kind="stable", ignore_index=True).drop(columns="place")


def _over_runs(of: pd.DataFrame) -> dict[str, Any]:
    values = of["value"].to_numpy(dtype=float)
    mean = float(values.mean())
    low = high = float("nan")
    if len(of) >= LEAST:
        low, high = mean_interval(values)
    elif len(of) == 1 and {"ci_low", "ci_high"} <= set(of.columns):
        low, high = (float(of[c].iloc[0]) for c in ("ci_low", "ci_high"))
    return {"value": mean, "ci_low": low, "ci_high": high, "n_runs": len(of)}


def _telling(facts: Sequence[dict[str, Hashable]]) -> list[str]:
    """The keys that tell as many of these apart as all keys do, the first ones preferred."""
    chosen: list[str] = []
    groups: list[tuple[Hashable, ...]] = [() for _ in facts]
    for key in dict.fromkeys(key for fact in facts for key in fact):
        finer = [(*group, fact.get(key)) for group, fact in zip(groups, facts, strict=True)]
        if len(set(finer)) > len(set(groups)):
            chosen.append(key)
            groups = finer
    return chosen


def _facts(runs: Sequence[RunFiles]) -> list[dict[str, Hashable]]:
    """What each run is, the readable names first, then every setting of its configuration."""
    rankings = [run.ranking_name or "" for run in runs]
    # Beside other rankings an importance says little without its method.
    if all("/" in ranking for ranking in rankings):
        rankings = [ranking.partition("/")[2] for ranking in rankings]
    return [
        {
            "method": run.method,
            "baseline": run.baseline,
            "ranking": ranking,
            **{
                key: value
                for section, found in (run.config or {}).items()
                if section not in NOT_COMPARED
                for key, value in _flat(section, found)
            },
        }
        for run, ranking in zip(runs, rankings, strict=True)
    ]


def _flat(key: str, found: Any) -> list[tuple[str, Hashable]]:
    """Dotted key and value of every setting below `found`, without those of repeats."""
    if key.rpartition(".")[2] in REPEATS:
        return []
    if isinstance(found, dict):
        return [pair for name, value in found.items() for pair in _flat(f"{key}.{name}", value)]
    return [(key, _plain(found))]


def _plain(found: Any) -> Hashable:
    return str(found) if isinstance(found, list) else found
