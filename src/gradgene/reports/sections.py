"""The tables of the report, each made from a run's files or None where there is nothing to show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from gradgene.plotting import METRIC_NAMES, ORDER_NAMES
from gradgene.reports.figures import pick_curves
from gradgene.reports.numbers import number, percent
from gradgene.reports.run_files import RunFiles
from gradgene.reports.verdict import promised_delta

__all__ = [
    "GeneRows",
    "Table",
    "area_table",
    "command",
    "compared_table",
    "config_text",
    "confusion_table",
    "data_facts",
    "data_table",
    "donor_table",
    "gene_table",
    "ledger_table",
    "other_metrics",
    "provenance_facts",
    "pruning_tables",
    "quality_table",
    "recovery_table",
    "stage_table",
]

#: So many rows are in the page itself; the rest is drawn when somebody pages, sorts or searches.
PAGE = 200

#: A confusion matrix of more labels is no table to read; it is in confusion.parquet.
MOST_LABELS = 20

_QUALITY = {
    "test/balanced_accuracy": "Balanced accuracy (mean recall over labels)",
    "test/contrast_balanced_accuracy": "Balanced accuracy, input against baseline label",
    "test/accuracy": "Accuracy",
    "test/macro_f1": "Macro F1",
    "test/auroc": "AUROC (mean over labels, each against the rest)",
    "test/contrast_auroc": "AUROC, input against baseline label",
    "test/ece": "Expected calibration error",
    "calibration/temperature": "Temperature fitted on validation cells",
    "calibration/ece_after": "Expected calibration error at that temperature",
    "test/n_cells": "Test cells",
}
# Column → heading, kind (how it is written and sorted), explanation.
_GENE_COLUMNS = {
    "rank": ("Rank", "count", "1 is the most important gene"),
    "gene": ("Gene", "text", "Gene symbol"),
    "ensembl_id": ("Ensembl", "text", "Ensembl identifier"),
    "score": ("Score", "number", "Mean over all pairs, 0 where the gene is absent"),
    "ci_low": ("CI low", "number", "Lower end of the 95 % interval over donors"),
    "ci_high": ("CI high", "number", "Upper end of the 95 % interval over donors"),
    "direction": ("Direction", "direction", "Whether input cells express it more or less"),
    "log_fold_change": ("Log FC", "number", "Log fold change, input against baseline"),
    "score_present": ("Score where present", "number", "Mean over pairs in which it is expressed"),
    "presence": ("Presence", "number", "Part of the score owed to being expressed at all"),
    "mean_abs": ("Mean |score|", "number", "Mean of absolute scores"),
    "p_adjusted": ("Adjusted p", "number", "Corrected for the number of genes"),
    "n_pairs": ("Pairs", "count", "Pairs in which the gene is expressed"),
    "n_donors": ("Donors", "count", "Donors in which the gene is expressed"),
    "flags": ("Flags", "text", "What to be wary of for this gene"),
}


@dataclass(frozen=True)
class Table:
    """Headings and rows of finished text; `numeric` says for each column whether to align right."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


@dataclass(frozen=True)
class GeneRows:
    """The gene table: `columns` as (heading, kind, explanation), `rows` as plain values.

    Values are numbers, strings or None. `page` gives the first rows as text for the page itself,
    `island` everything for the script that sorts and searches.
    """

    columns: tuple[tuple[str, str, str], ...]
    rows: tuple[tuple[Any, ...], ...]

    def page(self) -> list[tuple[str, ...]]:
        """The first 200 rows as text."""
        return [tuple(number(value) for value in row) for row in self.rows[:PAGE]]

    def island(self) -> dict[str, Any]:
        """Everything as plain JSON: kinds of columns, rows per page, rows."""
        kinds = [kind for _, kind, _ in self.columns]
        return {"kinds": kinds, "page": PAGE, "rows": [list(row) for row in self.rows]}


def _table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table | None:
    """A table of any values; a column is numeric if it holds a number and no text."""
    if not rows:
        return None
    numeric = tuple(
        any(_is_number(row[i]) for row in rows) and not any(isinstance(row[i], str) for row in rows)
        for i in range(len(headings))
    )
    texts = tuple(tuple(number(value) for value in row) for row in rows)
    return Table(tuple(headings), texts, numeric)


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) and value == value


def data_facts(run: RunFiles) -> list[tuple[str, str]]:
    """What was read and how it was paired, as (name, value)."""
    report, study = run.data_report or {}, run.study
    metrics = run.metrics or {}
    pairs = metrics.get("pairs/n_pairs", None if run.pairs is None else len(run.pairs))
    filters = study.get("filters")
    facts = {
        "File": run.section("data").get("path"),
        "Cells read": report.get("n_cells_read"),
        "Cells kept": report.get("n_cells_kept"),
        "Filters": "; ".join(f"{k}: {_join(v)}" for k, v in filters.items())
        if isinstance(filters, dict)
        else None,
        "Split": report.get("split"),
        "Target": study.get("target"),
        "Input label": study.get("input"),
        "Baseline": study.get("baseline"),
        "Matched on": _join(study.get("match_on")),
        "Donor column": study.get("donor"),
        "Pairs": pairs,
        "Method": run.method,
    }
    return [(name, number(value)) for name, value in facts.items() if value not in (None, "")]


def _join(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value or "")


def data_table(run: RunFiles) -> Table | None:
    """Cells and donors of each label in each split."""
    rows = (run.data_report or {}).get("table") or []
    headings = {"split": "Split", "label": "Label", "n_cells": "Cells", "n_donors": "Donors"}
    return _table(list(headings.values()), [[row.get(key) for key in headings] for row in rows])


def quality_table(run: RunFiles) -> Table | None:
    """The model's figures on test cells."""
    metrics = run.metrics or {}
    rows = [(name, _value(key, metrics[key])) for key, name in _QUALITY.items() if key in metrics]
    return _table(["On test cells", "Value"], rows)


def donor_table(run: RunFiles) -> Table | None:
    """The model's figures on the test cells of each donor."""
    names = {
        "donor": "Donor",
        "n_cells": "Cells",
        "balanced_accuracy": "Balanced accuracy",
        "macro_f1": "Macro F1",
        "auroc": "AUROC",
        "contrast_balanced_accuracy": "Balanced accuracy, input against baseline",
        "ece": "Calibration error",
    }
    if run.donors is None:
        return None
    present = [name for name in names if name in run.donors]
    rows = [tuple(row) for row in run.donors[present].itertuples(index=False)]
    return _table([names[name] for name in present], rows)


def confusion_table(run: RunFiles) -> Table | None:
    """Test cells by true label (rows) and label named (columns), of labels that occur."""
    if run.confusion is None:
        return None
    seen = run.confusion[run.confusion["n_cells"] > 0]
    wide = run.confusion.pivot(index="truth", columns="predicted", values="n_cells")
    wide = wide.loc[wide.index.isin(seen["truth"]), wide.columns.isin(seen["predicted"])]
    if len(wide) > MOST_LABELS:
        return None
    rows = [
        (str(truth), *map(int, row)) for truth, row in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    return _table(["True label", *(f"named {label}" for label in wide.columns)], rows)


def _value(key: str, value: Any) -> Any:
    """A metric's value, counts as whole numbers even where JSON made them 12.0."""
    name = key.rpartition("/")[2]
    whole = name.startswith("n_") and isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


def gene_table(run: RunFiles) -> GeneRows | None:
    """Every ranked gene, best first, with those columns that hold any value."""
    genes = run.ranked_genes
    if genes is None or genes.empty:
        return None
    names = [
        name
        for name in _GENE_COLUMNS
        if name in genes and (genes[name].notna() & (genes[name].astype(str) != "")).any()
    ]
    columns = [[_plain(v, _GENE_COLUMNS[n][1]) for v in genes[n].tolist()] for n in names]
    return GeneRows(
        columns=tuple(_GENE_COLUMNS[name] for name in names),
        rows=tuple(zip(*columns, strict=True)),
    )


def _plain(value: Any, kind: str) -> Any:
    """A cell of the gene table as JSON can hold it: four digits are enough to sort and to read."""
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    if kind == "count":
        return int(value)
    if kind == "number":
        number_ = float(f"{float(value):.4g}")
        return number_ if abs(number_) != float("inf") else None
    if kind == "direction" and not isinstance(value, str):
        return "up" if value > 0 else "down" if value < 0 else "–"
    return _join(value) if isinstance(value, list | tuple) else str(value)


def compared_table(run: RunFiles, n: int = 30) -> Table | None:
    """The compared methods beside the main one: their best genes and how far they agree."""
    main = run.ranked_genes
    if main is None or not run.compared:
        return None
    best = set(main["gene"].head(n))
    ranks = main.set_index("gene")["rank"].astype(float)
    rows: list[tuple[Any, ...]] = [
        (run.method, ", ".join(map(str, main["gene"].head(10))), None, None)
    ]
    for method, table in run.compared.items():
        other = RunFiles(path=run.path, genes=table).ranked_genes
        if other is None or other.empty:
            continue
        both = pd.concat([ranks, other.set_index("gene")["rank"].astype(float)], axis=1).dropna()
        # Pearson's correlation of ranks is Spearman's, and needs no scipy.
        agreement = both.rank().corr().iloc[0, 1] if len(both) > 2 else None
        shared = len(best & set(other["gene"].head(n)))
        rows.append((method, ", ".join(map(str, other["gene"].head(10))), shared, agreement))
    headings = ["Method", "Ten best genes", f"Of the {n} best, shared", "Rank correlation"]
    return _table(headings, rows) if len(rows) > 1 else None


def recovery_table(run: RunFiles) -> Table | None:
    """How many of each ranking's best genes are in the list of known genes."""
    rows = []
    for key, value in (run.metrics or {}).items():
        ranking, at, count = key.removeprefix("recovery/").rpartition("@")
        if key.startswith("recovery/") and at:
            rows.append((ranking, int(count) if count.isdigit() else count, value))
    rows.sort(key=lambda row: -float(row[2]))
    return _table(["Ranking", "Best genes", "Of them known"], rows)


def area_table(run: RunFiles) -> Table | None:
    """Area between each ranking's pruning curve and random's, for the arm and metric shown."""
    picked, summary = pick_curves(run), run.summary
    if summary is None or summary.empty:
        return None
    if picked is not None:
        for column, value in (("arm", picked[1]), ("metric", picked[2])):
            if column in summary:
                summary = summary[summary[column] == value]
    orders = [order for order in ORDER_NAMES if (summary["order"] == order).any()]
    rows = []
    for ranking in dict.fromkeys(summary["ranking"]):
        of = summary[summary["ranking"] == ranking].set_index("order")
        rows.append(
            (ranking, *(_area(of.loc[order]) if order in of.index else None for order in orders))
        )
    return _table(["Ranking", *(ORDER_NAMES[order].capitalize() for order in orders)], rows)


def _area(row: Any) -> str:
    row = row.iloc[0] if isinstance(row, pd.DataFrame) else row
    low, high = row.get("ci_low"), row.get("ci_high")
    interval = f" [{number(low)}, {number(high)}]" if pd.notna(low) and pd.notna(high) else ""
    return f"{number(float(row['area']))}{interval}"


def pruning_tables(run: RunFiles) -> dict[str, tuple[str, Table]]:
    """Order → (metric's name, values of every ranking at every ratio, draws averaged)."""
    picked = pick_curves(run)
    found = {}
    for order in ORDER_NAMES if picked is not None else ():
        assert picked is not None
        curves, _, metric = picked
        curves = curves[curves["order"] == order]
        if curves.empty:
            continue
        wide = curves.pivot_table(index="ranking", columns="ratio", values="value", aggfunc="mean")
        wide = wide.reindex([r for r in dict.fromkeys(curves["ranking"]) if r in wide.index])
        rows = [
            (str(name), *map(float, row))
            for name, row in zip(wide.index, wide.to_numpy(), strict=True)
        ]
        table = _table(["Ranking", *(percent(float(ratio)) for ratio in wide.columns)], rows)
        if table is not None:
            found[order] = (METRIC_NAMES.get(metric, metric), table)
    return found


def ledger_table(run: RunFiles) -> Table | None:
    """How completely each method's scores add up, and what may be expected of it."""
    sizes: dict[str, dict[str, Any]] = {}
    for key, value in (run.metrics or {}).items():
        parts = key.split("/")
        if (
            len(parts) == 3
            and parts[0] == "attribution"
            and parts[2].startswith("relative_delta_p")
        ):
            sizes.setdefault(parts[1], {})[parts[2].removeprefix("relative_delta_p")] = value
    if run.method and run.method not in sizes and run.pairs is not None:
        delta = run.pairs.get("relative_delta", pd.Series(dtype=float)).dropna().abs()
        if len(delta):
            sizes[run.method] = {"50": delta.quantile(0.5), "99": delta.quantile(0.99)}
    rows = []
    for method, size in sizes.items():
        limit, worst = promised_delta(run, method), size.get("99")
        promise = "not complete" if limit is None else "complete"
        verdict = "none" if limit is None else "not measured"
        if limit is not None and worst is not None and pd.notna(worst):
            verdict = f"{'within' if float(worst) <= limit else 'beyond'} {number(limit)}"
        rows.append((method, promise, size.get("50"), worst, verdict))
    headers = ["Method", "Promise", "Median", "99th percentile", "Expectation at 99 %"]
    return _table(headers, rows)


def other_metrics(run: RunFiles) -> Table | None:
    """Every metric that no other table shows."""
    shown = ("recovery/", "pairs/n_pairs")
    in_ledger = re.compile(r"attribution/[^/]+/(complete|relative_delta_p.*)")
    rows = [
        (key, _value(key, value))
        for key, value in sorted((run.metrics or {}).items())
        if key not in _QUALITY and not key.startswith(shown) and not in_ledger.fullmatch(key)
    ]
    return _table(["Metric", "Value"], rows)


def stage_table(run: RunFiles) -> Table | None:
    """Seconds and memory of each stage."""
    names = {"stage": "Stage", "seconds": "Seconds", "peak_memory_mb": "Peak memory (MB)"}
    if run.stages is None:
        return None
    present = [name for name in names if name in run.stages]
    return _table([names[name] for name in present], run.stages[present].to_numpy().tolist())


def provenance_facts(run: RunFiles) -> list[tuple[str, str]]:
    """Versions, hashes and devices as (dotted name, value)."""
    facts = list(_flat(run.provenance or {}))
    return [(name, _join(value) or "–") for name, value in facts if name != "command"]


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def command(run: RunFiles) -> str | None:
    """The command that made the run, as provenance recorded it (text or list of words)."""
    found = (run.provenance or {}).get("command")
    return shlex.join(map(str, found)) if isinstance(found, list) else found


def config_text(run: RunFiles) -> str | None:
    """The resolved configuration as YAML."""
    return None if run.config is None else str(OmegaConf.to_yaml(OmegaConf.create(run.config)))
