"""Figures and report of a run: the right words, nothing unescaped, nothing from outside."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gradgene import plotting
from gradgene.reports import RunFiles, write_figures, write_report
from gradgene.reports.figures import _figures, legible
from gradgene.reports.html import _island
from gradgene.reports.numbers import number, percent
from gradgene.reports.sections import area_table, ledger_table, other_metrics, retrained_table
from gradgene.reports.verdict import cautions, question, verdict
from tests.reports.synthetic import (
    CONFIG,
    DATA_REPORT,
    METRICS,
    confusion_table,
    curves_table,
    donor_table,
    effects_table,
    enrichment_table,
    example_table,
    gene_table,
    label_tables,
    pair_table,
    strata_table,
    summary_table,
    write_run,
)

# What makes every figure but the one of completeness.
DRAWN = (
    "pruning/curves.parquet",
    "training.csv",
    "attributions/genes.parquet",
    "attributions/effects.parquet",
    "attributions/enrichment.parquet",
)
EVIL = "<script>alert(1)</script>"
PARTS = (
    "config.yaml",
    "provenance.json",
    "metrics.json",
    "data_report.json",
    "training.csv",
    "confusion.parquet",
    "test_donors.parquet",
    "attributions/genes.parquet",
    "attributions/pairs.parquet",
    "attributions/examples.parquet",
    "attributions/grad_x_delta/genes.parquet",
    "attributions/strata.parquet",
    "attributions/plan.json",
    "attributions/genes_by_label.parquet",
    "attributions/effects.parquet",
    "attributions/enrichment.parquet",
    "pruning/curves.parquet",
    "pruning/summary.parquet",
    "progress.jsonl",
)


class Page(HTMLParser):
    """A parsed page: its elements, the text outside scripts, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag if tag in ("script", "style") else self.inside
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag == self.inside else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif not self.inside:
            self.text += data

    def island(self, name: str = "gene-data") -> Any:
        """The JSON of an island, by default the gene table's."""
        (found,) = [text for attrs, text in self.scripts if attrs.get("id") == name]
        return json.loads(found)


def report(folder: Path, changes: Mapping[str, object] | None = None) -> Page:
    run = RunFiles.read(write_run(folder, changes, n_genes=60))
    # Without figures: they are tested below, once, and take most of the time.
    return Page(write_report(run, {}).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """A run with all its figures."""
    folder = write_run(tmp_path_factory.mktemp("run"))
    return folder, write_figures(RunFiles.read(folder))


def test_figures_exist_and_are_what_they_say(finished: tuple[Path, dict[str, Path]]) -> None:
    folder, figures = finished
    assert set(figures) == {
        "training_curves",
        "top_genes",
        "distribution_importance",
        "distribution_forward",
        "distribution_backward",
        "scores_by_gene",
        "effects",
        "enrichment",
        "pruning_lowest_first",
        "pruning_highest_first",
        "completeness",
    }
    for name, path in figures.items():
        assert path == folder / "figures" / f"{name}.png"
        assert path.read_bytes().startswith(b"\x89PNG")
        svg = path.with_suffix(".svg").read_text()
        assert "<svg" in svg and "<dc:date>" not in svg
    assert not list(folder.rglob("*.tmp"))


def test_figures_are_the_same_every_time(tmp_path: Path) -> None:
    run = RunFiles.read(write_run(tmp_path, dict.fromkeys(DRAWN)))
    first = {p: p.with_suffix(".svg").read_bytes() for p in write_figures(run).values()}
    again = {p: p.with_suffix(".svg").read_bytes() for p in write_figures(run).values()}
    assert list(first) == [tmp_path / "figures" / "completeness.png"] and first == again


def test_distributions_are_of_what_the_table_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genes = gene_table(60).assign(backward=float("nan"))
    panel = [f"X{i}" for i in range(5)] + sorted(genes["gene"], reverse=True)
    parts = {
        **dict.fromkeys(DRAWN),
        "attributions/genes.parquet": genes,
        "attributions/pairs.parquet": None,
        "checkpoints/hf/vocabulary.json": {"genes": panel},
    }
    run = RunFiles.read(write_run(tmp_path, parts))
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(plotting, "top_genes", lambda genes: drawn.update(top=genes))
    monkeypatch.setattr(
        plotting,
        "score_distribution",
        lambda scores, title, zero_share: drawn.update({title: (len(scores), zero_share)}),
    )
    monkeypatch.setattr(
        plotting, "scores_by_gene", lambda scores, names, order: drawn.update({order: names})
    )
    for _, draw in _figures(run):
        draw()
    assert list(drawn) == [
        *("top", "Importance (forward): deeplift", "Forward attribution: deeplift"),
        "in the order of the model's panel",
    ]
    assert drawn["Forward attribution: deeplift"] == (60, 0.031)
    names = drawn["in the order of the model's panel"]
    assert names == sorted(names, reverse=True) and len(names) == 60, "as in the vocabulary"


def test_effects_of_many_rankings_keep_the_main_one_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"deeplift/{i}{s}" for i in ("forward", "backward", "contrast") for s in ("", "/abs")]
    names += [f"m{i}/forward" for i in range(12)] + ["random", "log_fold_change"]
    effects = pd.DataFrame({"ranking": names, "label": "B cell", "spearman": 0.5})
    run = RunFiles.read(write_run(tmp_path, {"attributions/effects.parquet": effects}, n_genes=60))
    drawn: list[Any] = []
    monkeypatch.setattr(plotting, "effect_correlations", lambda *args: drawn.append(args))
    dict(_figures(run))["effects"]()
    ((shown, main),) = drawn
    assert main == "deeplift/forward"
    kept = set(shown["ranking"])
    assert {"deeplift/forward", "deeplift/forward/abs", "random", "log_fold_change"} <= kept
    assert not kept & {"deeplift/backward", "deeplift/contrast/abs"}


def test_an_empty_figure_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = pair_table().assign(relative_delta=float("nan"))
    parts = {**dict.fromkeys(DRAWN), "attributions/pairs.parquet": pairs}
    run = RunFiles.read(write_run(tmp_path, parts))
    assert write_figures(run) == {}
    assert "completeness left out" in caplog.text


def test_report_carries_its_figures(finished: tuple[Path, dict[str, Path]]) -> None:
    folder, figures = finished
    page = Page(write_report(RunFiles.read(folder), figures).read_text(encoding="utf-8"))
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == len(figures)
    for attrs in images:
        assert str(attrs["src"]).startswith("data:image/") and attrs["alt"]
    asks_for_nothing(page)


def asks_for_nothing(page: Page) -> None:
    """Nothing in the page loads anything; a link may lead out, but tells nobody where from."""
    for tag, attrs in page.tags:
        if tag == "a" and str(attrs["href"]).startswith("https://"):
            assert attrs == {"href": attrs["href"], "rel": "noopener noreferrer"}
            continue
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attrs.get(name) or ""
            assert not re.match(r"\s*(https?:)?//", value), (tag, name, value)
        assert tag not in ("iframe", "object", "embed", "base")
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv")]
    assert "default-src 'none'" in str(policy)


def test_report_says_the_question_and_the_verdict(tmp_path: Path) -> None:
    page = report(tmp_path)
    wanted = "Which genes made the model call a cell “IFN-beta stimulated” rather than “control”?"
    assert wanted in page.text
    assert "balanced accuracy of 0.957 [0.951, 0.963] over cells; IFN-beta" in page.text
    assert "19 of its 30 best" in page.text
    assert "Keeping only the best 5 % of the panel" in page.text
    assert "random genes, mean of 10" in page.text
    assert "3 input cells were skipped" in page.text
    assert "gradgene study experiment=kang_ifnb study.seed=0" in page.text
    assert "oddity/of_someone" in page.text and "abc123" in page.text
    assert "leaks the label" not in page.text and "No donor was held out" not in page.text
    asks_for_nothing(page)


def evil_evidence() -> dict[str, object]:
    """Tables of pairs and of evidence in which every name is a script."""
    skipped = pd.DataFrame({"method": [EVIL], "pair": [1], "input": [EVIL], "reason": [EVIL]})
    labels = label_tables().assign(label=EVIL)
    labels["gene"] = EVIL
    return {
        "attributions/strata.parquet": strata_table().assign(stratum=EVIL, reason=EVIL),
        "attributions/skipped_pairs.parquet": skipped,
        "attributions/plan.json": {EVIL: {EVIL: {"n_pairs": 1, "estimated_seconds": 1.0}}},
        "attributions/genes_by_label.parquet": labels,
        "attributions/effects.parquet": effects_table().assign(ranking=EVIL, label=EVIL),
        "attributions/enrichment.parquet": enrichment_table().assign(gene_set=EVIL, genes=EVIL),
        "attributions/grad_x_delta/genes.parquet": gene_table(60, method=EVIL),
        "attributions/examples.parquet": example_table(name=EVIL)
        .assign(input=EVIL, donor_input=EVIL, standing=EVIL)
        .replace({"name": {"GENE0": EVIL, "GENE1": "<!--<script>"}}),
        "pruning/curves.parquet": curves_table().replace({"ranking": {"hvg": EVIL}}),
    }


def test_names_are_escaped_everywhere(tmp_path: Path) -> None:
    genes = gene_table(60)
    genes.loc[genes["rank"] == 1, "gene"] = EVIL
    genes.loc[genes["rank"] == 2, "gene"] = "<!--<script>"
    config = {**CONFIG, "study": {**CONFIG["study"], "input": EVIL}}  # type: ignore[dict-item]
    page = report(
        tmp_path,
        {
            "attributions/genes.parquet": genes,
            "config.yaml": config,
            "provenance.json": {"command": EVIL, EVIL: EVIL},
            "data_report.json": {**DATA_REPORT, "notes": [EVIL]},
            "confusion.parquet": confusion_table().replace("control", EVIL),
            "test_donors.parquet": donor_table().assign(donor=[EVIL, "1256"]),
            **evil_evidence(),
        },
    )
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert EVIL not in html and "<!--" not in html
    for part in ("Pairs by stratum", "Pairs left out", "each label", "Gene sets", "published eff"):
        assert EVIL in page.text.split(part)[-1][:1200], part
    assert [row[1] for row in page.island()["rows"][:2]] == [EVIL, "<!--<script>"]
    assert [text[1] for text in page.island("pair-data")[0]["facts"][:1]] == [
        f"{EVIL} (donor {EVIL})"
    ]
    assert EVIL in page.island("curve-data")["styles"]
    scripts = [attrs.get("id") for attrs, _ in page.scripts]
    assert scripts == ["gene-data", "curve-data", "pair-data", None]
    assert EVIL in page.text.split("One cell at a time")[-1][:1200]
    asks_for_nothing(page)


def test_island_survives_everything() -> None:
    content = {"a": ["</script>", "<!--", "\u2028", 'quote"', None, 1.5]}
    text = _island(content)
    assert "<" not in text and json.loads(text) == content
    with pytest.raises(ValueError, match="JSON"):
        _island([float("nan")])


def test_gene_table_is_whole_in_the_island_and_short_in_the_page(tmp_path: Path) -> None:
    genes = gene_table(1000)
    genes.loc[3, "ci_low"] = float("nan")
    genes.loc[4, "log_fold_change"] = float("inf")
    page = report(tmp_path, {"attributions/genes.parquet": genes})
    island = page.island()
    assert len(island["rows"]) == 1000 and island["page"] == 100
    assert len(island["rows"][0]) == len(island["kinds"])
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    table = html[html.index('id="gene-table"') : html.index('id="gene-data"')]
    assert table.count("<tr>") == 101
    assert "@cell_type" not in table


def test_genes_without_optional_columns(tmp_path: Path) -> None:
    bare = pd.DataFrame({"gene": ["A", "B"], "score": [2.0, 1.0], "rank": [1, 2]})
    page = report(tmp_path, {**dict.fromkeys(PARTS), "attributions/genes.parquet": bare})
    assert page.island()["rows"] == [[1, "A", 2.0], [2, "B", 1.0]]
    assert "Pruning" not in page.text and "The command was not recorded" in page.text


def test_evidence_is_shown(tmp_path: Path) -> None:
    page = report(tmp_path)
    for text in (
        *("Pairs by stratum", "no 'control' cell in 'NK cell'", "Seconds, measured"),
        *("The best genes without a technical flag", "Flagged genes among the 30 best"),
        *("Ribosomal protein", "The best genes of each label", "Scores that are exactly zero"),
        *("59 %", "no target", "HALLMARK_INTERFERON_ALPHA_RESPONSE", "log_fold_change"),
        *("2 of the 30 best genes carry a technical flag", "What the columns mean"),
    ):
        assert text in page.text, text
    assert "Pairs left out" not in page.text and "have no intervals" not in page.text


def test_without_intervals_the_report_says_why(tmp_path: Path) -> None:
    genes = gene_table(60).assign(ci_low=float("nan"), ci_high=float("nan"))
    metrics = METRICS | {"attribution/deeplift/n_donors_input": 2}
    page = report(tmp_path, {"attributions/genes.parquet": genes, "metrics.json": metrics})
    assert page.text.count("Scores have no intervals: 2 donors on the input side") == 2
    assert "technical flag" not in page.text.split("Genes", 2)[2].split("What the columns")[0]


def test_confusion_and_donors_are_shown(tmp_path: Path) -> None:
    page = report(tmp_path)
    for text in ("named control", "2,101", "By donor", "4,000", "0.951", "0.988", "–"):
        assert text in page.text, text
    assert "dendritic" not in page.text, "a label that nobody has or is given is left out"


def test_a_confusion_of_very_many_labels_is_left_to_its_file(tmp_path: Path) -> None:
    labels = [f"type {i}" for i in range(21)]
    table = pd.DataFrame({"truth": a, "predicted": b, "n_cells": 1} for a in labels for b in labels)
    page = report(tmp_path, {"confusion.parquet": table})
    assert "named type 3" not in page.text and "By donor" in page.text


@pytest.mark.parametrize("name", PARTS)
def test_any_part_may_be_absent(tmp_path: Path, name: str) -> None:
    assert "Verdict" in report(tmp_path, {name: None}).text


def test_leaking_rankings_are_announced(tmp_path: Path) -> None:
    curves = curves_table(rank_source="per_pair")
    page = report(tmp_path, {"pruning/curves.parquet": curves})
    assert page.text.count("This ranking leaks the label.") == 2
    assert any(attrs.get("role") == "alert" for _, attrs in page.tags)
    # Every table names the rankings that leak: those of attributions, not the controls.
    assert page.text.count("deeplift/forward (leaks)") >= 3 and "hvg (leaks)" not in page.text


def test_what_random_weights_reach_stands_beside_a_leaking_ranking(tmp_path: Path) -> None:
    curves = curves_table(rank_source="per_pair")
    null = curves[curves["ranking"] == "deeplift/forward"].copy()
    null["ranking"] += " (random weights)"
    null["value"] = 0.5 + 0.4 * null["ratio"]
    folder = write_run(tmp_path, {"pruning/curves.parquet": pd.concat([curves, null])})
    run = RunFiles.read(folder)
    (keep, drop) = [sentence for sentence in verdict(run) if "leaks the label" in sentence]
    assert "a model of random weights pruned in the same way reaches 0.88." in keep
    assert "reaches 0.508." in drop
    (leak,) = [c for c in cautions(run) if c.title == "This ranking leaks the label"]
    assert "fewest genes removed to best share: Balanced accuracy 0.5 to 0.892)" in leak.text


def test_arms_and_retrained_models(tmp_path: Path) -> None:
    both = curves_table()
    both = both[both["ranking"].isin(["deeplift/forward", "hvg", "random"])]
    arms = [
        both.assign(arm=arm, metric=metric, ranking=both["ranking"])
        for arm in ("input", "baseline")
        for metric in ("accuracy", "f1", "recall", "precision")
    ]
    matched = both[both["ranking"] == "random"].assign(ranking="random_matched", value=0.625)
    retrained = both[(both["order"] == "highest_first") & (both["draw"] == 0)]
    parts = {
        "pruning/curves.parquet": pd.concat([both, *arms, matched]),
        "pruning/retrained.parquet": retrained,
        "pruning/summary.parquet": None,
    }
    folder = write_run(tmp_path, parts)
    run = RunFiles.read(folder)
    figures = dict(_figures(run))
    assert {"paper_pruning_lowest_first", "paper_pruning_highest_first"} <= set(figures)
    assert len(figures["paper_pruning_lowest_first"]().axes) == 8
    (ax,) = figures["pruning_retrained"]().axes
    assert "new model" in ax.get_title(loc="left") and len(ax.lines) == 4
    page = Page(write_report(run, {}).read_text(encoding="utf-8"))
    assert "Baseline cells: Precision" in page.text and "Removed and trained again" in page.text
    assert "expressed alike, mean of 10: 0.625" in page.text
    table = retrained_table(run)
    assert table is not None and table.headings[:2] == ("Ranking", "without 0 %")
    assert len(table.rows) == 3 and "[" in table.rows[0][1]


def test_areas_of_every_kind_stand_side_by_side(tmp_path: Path) -> None:
    areas = summary_table()
    areas = areas.assign(against="random", rank_source="held_out")
    null = areas.iloc[:1].assign(ranking="a/b (random weights)", against="whole panel")
    areas = pd.concat([areas, null, areas.assign(metric="auroc"), areas.assign(metric="odd")])
    run = RunFiles.read(write_run(tmp_path, {"pruning/summary.parquet": areas}))
    table = area_table(run)
    assert table is not None
    assert table.headings[1:3] == (
        "Least important removed first: balanced accuracy",
        "Least important removed first: AUROC",
    )
    names = [str(row[0]) for row in table.rows]
    assert "a/b (random weights), against its whole panel" in names
    known = [cell for row in table.rows for cell in row[1:] if "against its" not in row[0]]
    assert len(table.headings) == 5 and all("[" in cell for cell in known)
    assert any("area to random over all shares: " in sentence for sentence in verdict(run))


def test_cautions(tmp_path: Path) -> None:
    metrics = METRICS | {
        "test/contrast_balanced_accuracy": 0.52,
        "attribution/deeplift/relative_delta_p99": 0.3,
    }
    fallback = {**DATA_REPORT, "split": "stratified cells (no donor column)"}
    write_run(tmp_path, {"metrics.json": metrics, "data_report.json": fallback})
    found = cautions(RunFiles.read(tmp_path))
    titles = [caution.title for caution in found]
    for title in ("Scores do not add up", "No donor was held out", "Cells without a partner"):
        assert title in titles
    assert "The model hardly tells the two labels apart" in titles
    levels = [caution.level for caution in found]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)


def test_completeness_that_was_not_measured(tmp_path: Path) -> None:
    sizes = {"attribution/deeplift/relative_delta_p50": float("nan")}
    sizes["attribution/deeplift/relative_delta_p99"] = float("nan")
    page = report(tmp_path, {"metrics.json": METRICS | sizes})
    assert "not measured" in page.text and "beyond" not in page.text
    assert "Scores add up" not in page.text


@pytest.mark.parametrize(
    ("said", "promise", "expectation", "words"),
    [
        ({}, "complete", "within 0.0001", "Scores add up"),
        ({"complete": 1.0}, "complete", "within 0.0001", "Scores add up"),
        # One layer alone: complete by name, not with these parameters.
        ({"complete": 0.0}, "not complete", "none", "need not add up"),
    ],
)
def test_promises_stand_beside_what_was_measured(
    tmp_path: Path, said: dict[str, float], promise: str, expectation: str, words: str
) -> None:
    more = {f"attribution/deeplift/{name}": value for name, value in said.items()}
    write_run(tmp_path, {"metrics.json": METRICS | more})
    run = RunFiles.read(tmp_path)
    table = ledger_table(run)
    assert table is not None
    rows = {str(row[0]): row for row in table.rows}
    assert rows["deeplift"][1] == promise and rows["deeplift"][-1] == expectation
    assert rows["grad_x_delta"][1] == "not complete" and rows["grad_x_delta"][-1] == "none"
    assert any(words in sentence for sentence in verdict(run))
    assert other_metrics(run) is None or "complete" not in str(other_metrics(run))


def test_question_without_a_baseline_or_a_study(tmp_path: Path) -> None:
    config = {"study": {"input": "B", "baseline": None}}
    assert question(RunFiles(tmp_path, config)) == "Which genes made the model call a cell “B”?"
    assert question(RunFiles(tmp_path)).endswith("?")
    assert verdict(RunFiles(tmp_path)) == []


def test_other_orders_and_metrics(tmp_path: Path) -> None:
    curves = curves_table()
    curves = curves[(curves["order"] == "highest_first") & (curves["ratio"] > 0.02)]
    curves = curves.assign(metric="f1", arm="input")
    page = report(tmp_path, {"pruning/curves.parquet": curves})
    assert "Removing the best 5 % first brings f1 to" in page.text
    assert "Keeping only" not in page.text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (pd.NA, "–"),
        (True, "yes"),
        (12345, "12,345"),
        (0.0, "0"),
        (0.95712, "0.957"),
        (1234.5, "1,234"),
        (5.2e-7, "5.2e-07"),
        (-2.5e6, "-2.5e+06"),
        ("x", "x"),
    ],
)
def test_numbers(value: object, text: str) -> None:
    assert number(value) == text


def test_percent_hides_rounding_noise() -> None:
    assert percent(1 - 0.95) == "5 %"
    assert percent(0.005) == "0.5 %"


def test_a_crowd_of_rankings_is_thinned_in_figures_only(tmp_path: Path) -> None:
    names = [
        f"grad_x_delta/{i}{s}" for i in ("forward", "contrast", "backward") for s in ("", "/abs")
    ]
    names += ["grad_x_delta/paper_mean", "deeplift/forward", "deeplift/forward/abs"]
    names += ["hvg", "deg", "expression", "random"]
    curves = pd.DataFrame({"ranking": names})
    kept = set(legible(curves, "deeplift/forward")["ranking"])
    assert kept == {
        *("deeplift/forward", "grad_x_delta/contrast", "grad_x_delta/contrast/abs"),
        *("grad_x_delta/paper_mean", "hvg", "deg", "expression", "random"),
    }
    few = curves.head(5)
    assert legible(few, "deeplift/forward") is few


def test_what_is_legible_follows_the_baseline() -> None:
    """Under a baseline that does not swap, every method is ranked by `own_label`."""
    names = [f"grad_x_delta/{i}{s}" for i in ("forward", "own_label") for s in ("", "/abs")]
    names += [f"m{k}/forward" for k in range(20)]
    curves = pd.DataFrame({"ranking": names})
    kept = set(legible(curves, "deeplift/own_label", "empty")["ranking"])
    assert kept == {"grad_x_delta/own_label", "grad_x_delta/own_label/abs"}
