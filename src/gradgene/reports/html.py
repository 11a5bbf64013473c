"""The report: one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from gradgene import __version__
from gradgene.plotting import PALETTE
from gradgene.reports import sections
from gradgene.reports.controls import agreement_names
from gradgene.reports.curve_data import curve_charts
from gradgene.reports.evidence import interval_note, swaps
from gradgene.reports.figures import write_figures
from gradgene.reports.headline import key_figures
from gradgene.reports.numbers import number
from gradgene.reports.run_files import RunFiles, write_atomically
from gradgene.reports.verdict import cautions, leaks, promised_delta, question, verdict

__all__ = ["page_template", "picture", "write_report"]

# Beyond this many bytes a figure goes in as PNG, which does not grow with what is drawn.
_LARGEST_SVG = 400_000

_ALT = {
    "training_curves": "Loss and validation accuracy over training epochs",
    "top_genes": "Bars of the highest-ranked genes with intervals, flagged genes hatched",
    "distribution_importance": "Histogram of gene scores with 1st and 99th percentile lines",
    "distribution_forward": "Histogram of mean forward attributions of genes",
    "distribution_backward": "Histogram of mean backward attributions of genes",
    "scores_by_gene": "Score of each gene in panel order, outliers named",
    "effects": "Correlation of each ranking with published effects in each label",
    "enrichment": "Bars of the gene sets that the best genes are richest in",
    "sanity": "Rank correlation of each control with the trained model",
    "pair_stability": "Likeness of rankings of other pairs, by number of pairs",
    "donor_stability": "Likeness of the ranking without each donor to that of all",
    "agreement": "Heat map of the agreement of rankings, two by two",
    "disputed_genes": "Ranks of the genes that methods disagree about most",
    "interactions": "Heat map of the interactions of every two of the best genes",
    "pruning_lowest_first": "Performance as the least important genes are removed first",
    "pruning_highest_first": "Performance as the most important genes are removed first",
    "paper_pruning_lowest_first": "Accuracy, F1, recall and precision of input and baseline cells "
    "as the least important genes are removed first",
    "paper_pruning_highest_first": "Accuracy, F1, recall and precision of input and baseline cells "
    "as the most important genes are removed first",
    "pruning_retrained": "Performance of models trained without the most important genes",
    "completeness": "Share of pairs below each completeness error",
    "faithfulness": "Measures of faithfulness of each method and of controls, with intervals",
}


def write_report(run: RunFiles, figures: Mapping[str, Path] | None = None) -> Path:
    """Write `report.html` into a run's folder.

    Parameters
    ----------
    run
        The run's files; sections for which it has nothing are left out.
    figures
        Figure name → PNG with its SVG beside it, as `write_figures` returns them; None draws them.

    Returns
    -------
    Path
        The report: a single file without external requests, readable from disk.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    figures = write_figures(run) if figures is None else figures
    page = page_template("template.html.j2").render(
        question=question(run),
        study=run.study,
        verdict=verdict(run),
        key_figures=key_figures(run),
        cautions=cautions(run),
        leaks=leaks(run),
        figures={
            name: picture(path, _ALT.get(name, name.replace("_", " ")))
            for name, path in figures.items()
        },
        colours=PALETTE,
        version=__version__,
        **_tables(run),
    )
    return write_atomically(run.path / "report.html", page.encode("utf-8"))


def _tables(run: RunFiles) -> dict[str, Any]:
    """Every table and list of facts the template shows, None where the run has none."""
    genes, pairs, charts = sections.gene_table(run), sections.pair_views(run), curve_charts(run)
    return {
        "data_facts": sections.data_facts(run),
        "data_table": sections.data_table(run),
        "strata": sections.strata_table(run),
        "n_strata": 0 if run.strata is None else len(run.strata),
        "costs": sections.cost_table(run),
        "skipped_pairs": sections.skipped_table(run),
        "n_skipped_pairs": 0 if run.skipped_pairs is None else len(run.skipped_pairs),
        "quality": sections.quality_table(run),
        "confusion": sections.confusion_table(run),
        "donors": sections.donor_table(run),
        "genes": genes,
        "genes_json": None if genes is None else _island(genes.island()),
        "pairs": pairs,
        "pairs_json": _island([view.island() for view in pairs]),
        "complete": promised_delta(run, run.method or "") is not None,
        "curves_json": None if charts is None else _island(charts),
        "control_rankings": sections.control_ranking_table(run),
        "worst_pairs": sections.worst_pairs_table(run),
        "methods_text": sections.methods_text(run),
        "interval_note": interval_note(run),
        "swaps": swaps(run),
        "unflagged": sections.unflagged_table(run),
        "flagged": sections.flagged_table(run),
        "flags": sections.flag_table(run),
        "by_label": sections.label_table(run),
        "zeros": sections.zero_table(run),
        "effects": sections.effect_table(run),
        "enrichment": sections.enrichment_table(run),
        "interactions": sections.interaction_rows(run),
        "sanity": sections.sanity_table(run),
        "sanity_sentence": sections.sanity_sentence(run),
        "stability": sections.stability_table(run),
        "stability_sentence": sections.stability_sentence(run),
        "donor_stability": sections.donor_stability_table(run),
        "agreement": sections.agreement_table(run, agreement_names(run)),
        "consensus": sections.consensus_table(run),
        "disputed": sections.disputed_table(run),
        "compared": sections.compared_table(run),
        "recovery": sections.recovery_table(run),
        "pruning_areas": sections.area_table(run),
        "pruning_values": sections.pruning_tables(run),
        "pruning_arms": sections.arm_tables(run),
        "retrained": sections.retrained_table(run),
        "ledger": sections.ledger_table(run),
        "faithfulness": sections.faithfulness_table(run),
        "faithfulness_note": sections.faithfulness_note(run),
        "other_metrics": sections.other_metrics(run),
        "stages": sections.stage_table(run),
        "provenance": sections.provenance_facts(run),
        "command": sections.command(run),
        "given": sections.given(run),
        "config": sections.config_text(run),
    }


def page_template(name: str) -> Template:
    """A page to be filled in, where everything is escaped and nothing may be missing."""
    environment = Environment(
        loader=PackageLoader("gradgene.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["gene_url"] = sections.gene_url
    return environment.get_template(name)


def picture(png: Path, alt: str) -> dict[str, str]:
    """A figure (its SVG, where that is small) as a data URI, and the text that stands for it."""
    svg = png.with_suffix(".svg")
    small = svg.is_file() and svg.stat().st_size <= _LARGEST_SVG
    path, kind = (svg, "image/svg+xml") if small else (png, "image/png")
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return {"uri": f"data:{kind};base64,{data}", "alt": alt}


def _island(content: Any) -> str:
    """JSON that is safe inside a script element.

    Every `<` is written as an escape, so that neither `</script>` nor `<!--` in a gene's name can
    end or change the element; a parser of JSON reads the same text back.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
