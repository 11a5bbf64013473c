"""Single pairs of cells: what moved the model from the one's answer to the other's."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from gradgene.reports.numbers import number, percent
from gradgene.reports.run_files import RunFiles
from gradgene.reports.sections.tables import Table, make_table
from gradgene.reports.verdict import promised_delta

__all__ = ["PairStep", "PairView", "pair_views", "worst_pairs_table"]

#: What a pair is among those of its stratum, by the change in the model's output.
STANDINGS = {
    "typical": "the median change of its stratum",
    "weak": "among the smallest changes of its stratum (10th percentile)",
    "strong": "among the largest changes of its stratum (90th percentile)",
}


@dataclass(frozen=True)
class PairStep:
    """One row of the waterfall: what it is, its own texts, and where its bar goes.

    `kind` is `end` (either cell's own output), `gene`, `category`, `rest` or `missing`; `left` and
    `width` are in percent of the axis, `sign` is `up`, `down` or empty.
    """

    kind: str
    label: str
    baseline: str
    input: str
    score: str
    sign: str
    left: float
    width: float


@dataclass(frozen=True)
class PairView:
    """One pair as a reader sees it: its name, facts as (name, value), and the steps."""

    name: str
    facts: tuple[tuple[str, str], ...]
    steps: tuple[PairStep, ...]

    def island(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return asdict(self)


def pair_views(run: RunFiles) -> list[PairView]:
    """The pairs that the run explained one by one, typical ones first; empty without any."""
    if run.examples is None:
        return []
    return [_view(run, of) for _, of in run.examples.groupby("pair", sort=False)]


def _view(run: RunFiles, rows: pd.DataFrame) -> PairView:
    first = rows.iloc[0]
    standing, stratum = str(first["standing"]), _text(first["stratum"])
    f_input, f_baseline = float(first["f_input"]), float(first["f_baseline"])
    missing = f_input - f_baseline - float(rows["score"].sum())
    change = f_input - f_baseline
    facts = {
        "Input cell": _cell(first, "input"),
        "Baseline cell": _cell(first, "baseline"),
        "Stratum": stratum,
        "Output": f"{number(f_baseline)} for the baseline, {number(f_input)} for the input",
        "This pair has": STANDINGS.get(standing, standing),
        "Left unexplained": _missing(run, missing, change),
    }
    name = " · ".join(part for part in (stratum, standing, f"pair {first['pair']}") if part)
    return PairView(
        name=name,
        facts=tuple((key, value) for key, value in facts.items() if value),
        steps=tuple(_steps(rows, f_baseline, f_input, missing)),
    )


def _cell(row: Any, member: str) -> str:
    donor = _text(row[f"donor_{member}"])
    return _text(row[member]) + (f" (donor {donor})" if donor else "")


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value)


def _missing(run: RunFiles, missing: float, change: float) -> str:
    share = f" ({percent(abs(missing / change))} of the change)" if change else ""
    if promised_delta(run, run.method or "") is None:
        return f"{number(missing)}{share}; scores of this method need not add up"
    return f"{number(missing)}{share}"


def _steps(
    rows: pd.DataFrame, f_baseline: float, f_input: float, missing: float
) -> Iterator[PairStep]:
    """From the baseline's output, gene by gene, to the input's."""
    genes = rows[rows["kind"] != "category"]
    moving = rows[(rows["kind"] == "category") & (rows["score"] != 0)]
    order: list[Mapping[Hashable, Any]] = [
        *moving.to_dict("records"),
        *genes.to_dict("records"),
    ]
    steps: list[tuple[str, Mapping[Hashable, Any], float, float]] = []
    at = f_baseline
    for row in order:
        steps.append((str(row["kind"]), row, at, at + float(row["score"])))
        at += float(row["score"])
    reach = [f_baseline, f_input, 0.0, *(x for _, _, a, b in steps for x in (a, b))]
    low, high = min(reach), max(reach)
    # Rounding is no step: what is below a thousandth of the axis cannot be seen.
    if abs(missing) > 1e-3 * (high - low):
        steps.append(("missing", {"score": missing}, at, f_input))

    def step(kind: str, label: str, a: float, b: float, score: float, **values: str) -> PairStep:
        width = (high - low) or 1.0
        sign = "" if kind == "end" else "up" if score > 0 else "down" if score < 0 else ""
        return PairStep(
            kind=kind,
            label=label,
            baseline=values.get("baseline", ""),
            input=values.get("input", ""),
            score=number(score),
            sign=sign,
            left=round(100 * (min(a, b) - low) / width, 3),
            width=round(100 * abs(b - a) / width, 3),
        )

    yield step("end", "Baseline cell's output", 0.0, f_baseline, f_baseline)
    for kind, row, a, b in steps:
        values = {m: number(row[f"value_{m}"]) for m in ("baseline", "input") if kind == "gene"}
        yield step(kind, _label(kind, row), a, b, float(row["score"]), **values)
    yield step("end", "Input cell's output", 0.0, f_input, f_input)


def _label(kind: str, row: Mapping[Hashable, Any]) -> str:
    if kind == "rest":
        return f"{int(row['n_genes']):,} other genes"
    if kind == "missing":
        return "Not explained"
    return f"@{row['name']}" if kind == "category" else str(row["name"])


def worst_pairs_table(run: RunFiles, n: int = 5) -> Table | None:
    """The pairs whose scores leave most unexplained, the ledger's last lines."""
    columns = {
        "pair": "Pair",
        "input": "Input cell",
        "baseline": "Baseline cell",
        "f_baseline": "Output, baseline",
        "f_input": "Output, input",
        "forward_delta": "Missing, forward",
        "backward_delta": "Missing, backward",
        "relative_delta": "Relative delta",
    }
    pairs = run.pairs
    if pairs is None or "relative_delta" not in pairs or pairs["relative_delta"].isna().all():
        return None
    present = [name for name in columns if name in pairs]
    worst = pairs.sort_values("relative_delta", ascending=False, kind="stable").head(n)
    rows = list(zip(*(worst[name].tolist() for name in present), strict=True))
    return make_table([columns[name] for name in present], rows)
