"""What a run says, in words and numbers: the question, the verdict, and what to be wary of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from gradgene.attribution import METHODS, AttributionMethod
from gradgene.plotting import CONTROLS, METRIC_NAMES
from gradgene.pruning import RANDOM_WEIGHTS
from gradgene.reports.controls import control_cautions
from gradgene.reports.evidence import flags_of, has_flags, interval_note, null_note
from gradgene.reports.faithfulness import faithfulness_cautions
from gradgene.reports.figures import pick_curves
from gradgene.reports.headline import accuracy_interval, bracketed, pruning_points
from gradgene.reports.numbers import number, percent
from gradgene.reports.run_files import RunFiles

__all__ = ["Caution", "cautions", "leaks", "promised_delta", "question", "verdict"]

#: So many genes count as the best.
TOP = 30


@dataclass(frozen=True)
class Caution:
    """Something that limits what may be concluded: `level` is `error`, `warning` or `note`."""

    level: str
    title: str
    text: str


def question(run: RunFiles) -> str:
    """Write the question that the run answers as one sentence, from its `study` section."""
    label, baseline = run.study.get("input"), run.study.get("baseline")
    if not label:
        return "Which genes did the model's decision rest on?"
    asked = f"Which genes made the model call a cell “{label}”"
    return f"{asked} rather than “{baseline}”?" if baseline else f"{asked}?"


def verdict(run: RunFiles) -> list[str]:
    """Write what the run found, one sentence with its numbers for each kind of evidence.

    Parameters
    ----------
    run
        The run's files; evidence that it lacks is left out.

    Returns
    -------
    list of str
        Plain text, not escaped for HTML.
    """
    return [
        *_model_sentence(run),
        *_gene_sentence(run),
        *_effect_sentence(run),
        *_pruning_sentences(run),
        *_sum(run),
    ]


def _model_sentence(run: RunFiles) -> Iterator[str]:
    metrics = run.metrics or {}
    accuracy = metrics.get("test/balanced_accuracy")
    if accuracy is None:
        return
    cells = metrics.get("test/n_cells")
    where = f"On {number(int(cells))} test cells" if cells else "On the test cells"
    target = run.study.get("target")
    text = f"{where} the model predicts {target or 'the label'} with a balanced accuracy of "
    found = accuracy_interval(run)
    text += f"{number(float(accuracy))} {bracketed(*found) if found else ''}".strip()
    contrast = metrics.get("test/contrast_balanced_accuracy")
    if contrast is not None and run.study.get("baseline"):
        text += (
            f"; {run.study.get('input')} against {run.study['baseline']}: {number(float(contrast))}"
        )
    yield text + "."


def _gene_sentence(run: RunFiles) -> Iterator[str]:
    genes = run.ranked_genes
    if genes is None or genes.empty:
        return
    best = ", ".join(genes["gene"].astype(str).head(5))
    text = f"{run.method or 'The attribution'} ranks {best} highest of {len(genes):,} genes"
    first = genes.iloc[0]
    interval = bracketed(first.get("ci_low"), first.get("ci_high"), "over donors")
    text += f"; the first scores {number(float(first['score']))} {interval}".rstrip()
    for name, count, value in run.recovered:
        if name == run.main_ranking:
            text += f"; {number(value)} of its {count} best are in the list of known genes"
    yield text + "."


def _effect_sentence(run: RunFiles) -> Iterator[str]:
    if run.effects is None:
        return
    known = run.effects.dropna(subset=["spearman"])
    median = known.groupby("ranking", sort=False)["spearman"].median()
    main = run.ranking_name
    if main is None or main not in median:
        return
    labels = known.loc[known["ranking"] == main, "label"]
    where = f"over {len(labels)} labels" if len(labels) > 1 else f"for {labels.iloc[0]}"
    text = (
        f"Its scores, with the sign of each gene's change, follow the published effects with a "
        f"rank correlation of {number(float(median[main]))} ({where})"
    )
    if "random" in median:
        text += f"; random scores with that sign reach {number(float(median['random']))}"
    yield text + "."


def _pruning_sentences(run: RunFiles) -> Iterator[str]:
    main, whole = run.main_ranking, "each pair's genes" if leaks(run) else "the panel"
    for point in pruning_points(run):
        assert main is not None  # there is a point of it
        name = METRIC_NAMES.get(point.metric, point.metric).lower()
        value = _interval(point.own)
        if point.order == "lowest_first":
            kept = percent(1 - point.ratio)
            text = f"Keeping only the best {kept} of {whole} leaves {name} at {value}"
        else:
            text = f"Removing the best {percent(point.ratio)} first brings {name} to {value}"
        leaking = leaks(run) and main not in CONTROLS  # no pair makes a control
        area = _area(run, main, point.order, point.arm, point.metric)
        others = [*_random_genes(point.all), *area]
        yield (
            text
            + (f" ({'; '.join(others)})" if others else "")
            + (f"; this ranking leaks the label{_null(point.all, main)}." if leaking else ".")
        )


def _random_genes(here: pd.DataFrame) -> Iterator[str]:
    """What random genes and those matched in expression reach at the same place."""
    kinds = {"random": "random genes", "random_matched": "expressed alike"}
    for ranking, words in kinds.items():
        draws = here[here["ranking"] == ranking]
        if len(draws):
            count = f", mean of {len(draws)}" if len(draws) > 1 else ""
            yield f"{words}{count}: {number(float(draws['value'].mean()))}"


def _area(run: RunFiles, main: str, order: str, arm: str, metric: str) -> Iterator[str]:
    """The area between the main ranking's curve and random's, where it has an interval."""
    summary = run.summary
    if summary is None or not {"arm", "metric", "ci_low", "ci_high"} <= set(summary.columns):
        return
    row = summary[
        (summary["ranking"] == main)
        & (summary["order"] == order)
        & (summary["arm"] == arm)
        & (summary["metric"] == metric)
    ]
    if len(row) == 1 and row[["ci_low", "ci_high"]].notna().all(axis=None):
        area, low, high = (number(float(row[c].iloc[0])) for c in ("area", "ci_low", "ci_high"))
        over = row["interval_over"].iloc[0] if "interval_over" in row else None
        of = {"draws": " over random draws alone", "donors": " over donors"}.get(str(over), "")
        yield f"area to random over all shares: {area} [{low}, {high}]{of}"


def _null(here: pd.DataFrame, main: str) -> str:
    """What a model of random weights reaches when it is ranked and pruned in the same way."""
    null = here.loc[here["ranking"] == f"{main}{RANDOM_WEIGHTS}", "value"]
    if null.empty:
        return ""
    reached = number(float(null.mean()))
    return f", and a model of random weights pruned in the same way reaches {reached}"


def _interval(rows: pd.DataFrame) -> str:
    """The mean value of rows, with its interval where there is one."""
    text = number(float(rows["value"].mean()))
    if {"ci_low", "ci_high"} <= set(rows.columns) and rows["ci_low"].notna().all():
        text += f" {bracketed(rows['ci_low'].mean(), rows['ci_high'].mean())}"
    return text


def _sum(run: RunFiles) -> Iterator[str]:
    size = _relative_delta(run)
    if size is None:
        return
    if promised_delta(run, run.method or "") is not None:
        yield (
            "Scores add up: for 99 % of pairs what is missing is at most "
            f"{number(size)} of the change in the model's output."
        )
    else:
        yield (
            f"Scores of this method need not add up: for 99 % of pairs the gap is at most "
            f"{number(size)} times the change in the model's output."
        )


def _relative_delta(run: RunFiles) -> float | None:
    """The main method's relative delta at the 99th percentile, from the metrics or the pairs."""
    found = (run.metrics or {}).get(f"attribution/{run.method}/relative_delta_p99")
    if found is None and run.pairs is not None and "relative_delta" in run.pairs:
        column = run.pairs["relative_delta"].dropna()
        found = column.abs().quantile(0.99) if len(column) else None
    # A run of no usable pairs writes NaN, which is no size to speak of.
    return None if found is None or pd.isna(found) else float(found)


def promised_delta(run: RunFiles, method: str) -> float | None:
    """Relative delta below which a method keeps 99 % of pairs; None if it promises no completeness.

    The run says what its method promised with its parameters; one that does not say is judged by
    what the method of that name promises.
    """
    known = METHODS.get(method)
    promised = (run.metrics or {}).get(f"attribution/{method}/complete", known and known.complete)
    return (known or AttributionMethod).tolerance if promised else None


def leaks(run: RunFiles) -> bool:
    """Whether genes were ranked on the very pairs that were pruned, which leaks the label."""
    if run.curves is not None and "rank_source" in run.curves:
        return bool((run.curves["rank_source"] == "per_pair").any())
    return run.curves is not None and run.section("pruning").get("rank_source") == "per_pair"


def cautions(run: RunFiles) -> list[Caution]:
    """List what limits the run's conclusions, the gravest first.

    Parameters
    ----------
    run
        The run's files.

    Returns
    -------
    list of Caution
        Plain text, not escaped for HTML.
    """
    controls = (*control_cautions(run), *faithfulness_cautions(run))
    found = [Caution(*said) for said in controls]
    found += [*_ranking_cautions(run), *_model_cautions(run), *_cell_cautions(run)]
    return sorted(found, key=lambda caution: ("error", "warning", "note").index(caution.level))


def _measured_null(run: RunFiles) -> str:
    """How good they look for a model of random weights, where the run pruned one."""
    picked, curves = pick_curves(run), run.curves
    if picked is None or curves is None:
        return ""
    _, arm, metric = picked
    null = f"{run.main_ranking}{RANDOM_WEIGHTS}"
    nulls = curves[(curves["ranking"] == null) & (curves["order"] == "lowest_first")]
    said = []
    # A model that gives one label to every cell may still be told the order of cells by the leak.
    for name in dict.fromkeys((metric, "auroc")):
        of = nulls[(nulls["arm"] == arm) & (nulls["metric"] == name)]
        by_ratio = of.groupby("ratio")["value"].mean()
        if len(by_ratio) > 1:
            first, most = float(by_ratio.iloc[0]), float(by_ratio.max())
            said.append(f"{METRIC_NAMES.get(name, name)} {number(first)} to {number(most)}")
    if not said:
        return ""
    where = "measured here with random weights, fewest genes removed to best share"
    return f" ({where}: {'; '.join(said)})"


def _ranking_cautions(run: RunFiles) -> Iterator[Caution]:
    if leaks(run):
        yield Caution(
            "error",
            "This ranking leaks the label",
            "Genes were ranked on the same pairs that were then pruned (rank_source: per_pair). "
            "Such curves can look good for a model that knows nothing"
            f"{_measured_null(run)}; use rank_source: held_out for a claim.",
        )
    if run.section("pairs").get("permute_labels") is not None:
        yield Caution(
            "error",
            "Labels were permuted",
            "This run is a control (pairs.permute_labels): its labels say nothing, so whatever it "
            "finds is chance.",
        )
    size, limit = _relative_delta(run), promised_delta(run, run.method or "")
    if size is not None and limit is not None and size > limit:
        yield Caution(
            "warning",
            "Scores do not add up",
            f"{run.method} must explain the output to within {number(limit)} for 99 % of pairs; "
            f"here it is {number(size)}.",
        )
    note = interval_note(run)
    if note is not None:
        yield Caution("note", "No intervals", note)
    note = null_note(run)
    if note is not None:
        yield Caution("note", "No null p", note)
    genes = run.ranked_genes
    if genes is not None and has_flags(run):
        flagged = [
            str(g) for g, f in zip(genes["gene"], genes["flags"], strict=True) if flags_of(f)
        ]
        best = set(genes["gene"].astype(str).head(TOP))
        among = [gene for gene in flagged if gene in best]
        if among:
            yield Caution(
                "note",
                "Flagged genes",
                f"{len(among)} of the {min(TOP, len(genes))} best genes carry a technical flag "
                f"({', '.join(among)}); they are listed apart.",
            )
    yield from _skipped_while_running(run)


def _skipped_while_running(run: RunFiles) -> Iterator[Caution]:
    skipped = run.skipped_pairs
    if skipped is None or skipped.empty:
        return
    counts = skipped.groupby("method", sort=False).size()
    text = "; ".join(f"{method}: {number(int(n))}" for method, n in counts.items())
    yield Caution(
        "warning",
        "Pairs left out",
        f"Attribution failed on some pairs and they were left out ({text}); the reasons are "
        "listed with the data.",
    )


def _model_cautions(run: RunFiles) -> Iterator[Caution]:
    metrics = run.metrics or {}
    accuracy = metrics.get("test/contrast_balanced_accuracy")
    if accuracy is not None and float(accuracy) < 0.6:
        yield Caution(
            "warning",
            "The model hardly tells the two labels apart",
            f"Balanced accuracy between them is {number(float(accuracy))}, where guessing gives "
            "0.5; which genes it uses then says little about biology.",
        )
    skipped = metrics.get("pairs/n_skipped")
    if skipped:
        columns = ", ".join(map(str, run.study.get("match_on") or [])) or "the columns asked for"
        yield Caution(
            "warning",
            "Cells without a partner",
            f"{number(int(skipped))} input cells were skipped, because no baseline cell matches "
            f"them on {columns}.",
        )


def _cell_cautions(run: RunFiles) -> Iterator[Caution]:
    report: dict[str, Any] = run.data_report or {}
    split = report.get("split")
    if split and "held-out donors" not in str(split):
        yield Caution(
            "warning",
            "No donor was held out",
            f"The split is: {split}. Cells of one donor may be in training and in test, so the "
            "accuracy here does not speak for new donors.",
        )
    dropped = report.get("dropped")
    left_out = [
        f"{number(count)} ({str(reason).replace('_', ' ')})"
        for reason, count in (dropped if isinstance(dropped, dict) else {}).items()
        if count
    ]
    if left_out:
        yield Caution("note", "Cells left out", ", ".join(left_out))
    for note in report.get("notes") or []:
        yield Caution("note", "Data", str(note))
