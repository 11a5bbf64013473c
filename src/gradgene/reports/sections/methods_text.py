"""The "Methods" paragraphs of a manuscript, from what the run was configured to do and did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gradgene.genes.statistics import MIN_DONORS
from gradgene.reports.evidence import donors_of
from gradgene.reports.numbers import number, percent
from gradgene.reports.run_files import RunFiles
from gradgene.reports.sections.controls import CONTROLS
from gradgene.reports.sections.references import REFERENCES, of_data, of_method
from gradgene.reports.sections.tables import joined

__all__ = ["MethodsText", "methods_text"]

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class MethodsText:
    """Paragraphs with their citations as `(Author year)`, and the references cited, by name."""

    paragraphs: tuple[str, ...]
    references: tuple[str, ...]


def methods_text(run: RunFiles) -> MethodsText:
    """Plain paragraphs about what this run did; facts it does not know are left out."""
    parts = (_cells, _model, _pairs, _attribution, _genes, _pruning, _evaluation, _software)
    found = (" ".join(part(run)) for part in parts)
    paragraphs = tuple(text for text in found if text)
    whole = "\n".join(paragraphs)
    cited = sorted(text for key, text in REFERENCES.items() if key in whole)
    return MethodsText(paragraphs, tuple(cited))


def _cells(run: RunFiles) -> Iterator[str]:
    data, study, report = run.section("data"), run.study, run.data_report or {}
    if not study.get("target"):
        return
    kept = report.get("n_cells_kept")
    cells = f"{number(kept)} cells" if kept is not None else "Cells"
    filters = study.get("filters") or {}
    where = " and ".join(f"{column} {joined(labels)}" for column, labels in filters.items())
    yield (
        f"{cells} were read from {_file(data.get('path'))}{of_data(data.get('path'))}"
        + (f", those with {where}" if where else "")
        + "."
    )
    if data.get("values") == "counts":
        yield "Counts were scaled to 10,000 per cell and log-transformed (log1p)."
    elif data.get("values") == "lognorm":
        yield "Values were log-normalised already."
    yield from _panel(data, report)
    split = report.get("split")
    if split:
        yield f"Training, validation and test cells: {split}."
    n = {row.get("split"): 0 for row in report.get("table") or []}
    for row in report.get("table") or []:
        n[row.get("split")] += int(row.get("n_cells") or 0)
    if n:
        yield "There were " + _listed([f"{number(v)} {k}" for k, v in n.items()]) + " cells."


def _panel(data: Facts, report: Facts) -> Iterator[str]:
    genes, n_genes = data.get("genes"), report.get("n_genes")
    if isinstance(genes, int):
        yield (
            f"The {number(genes)} most variable genes of the training cells were used "
            f"(rule: {data.get('gene_rule')})."
        )
    elif genes:
        yield f"The panel was that of {_file(genes)}{_of(n_genes)}."
    elif n_genes:
        yield f"All {number(n_genes)} genes seen in training cells were used."
    edges = data.get("bin_edges")
    if isinstance(edges, list) and edges and data.get("binning") == "fixed":
        yield (
            f"Expression was cut into {len(edges)} bins at {joined([number(e) for e in edges])}; "
            "lower values counted as not expressed."
        )


def _model(run: RunFiles) -> Iterator[str]:
    model, tuning, data = run.section("model"), run.section("finetune"), run.section("data")
    target = run.study.get("target")
    path = run.section("checkpoint").get("path")
    sizes = {
        "layers": model.get("n_layers"),
        "attention heads": model.get("n_heads"),
        "dimensions": model.get("dim"),
    }
    known = _listed([f"{value} {name}" for name, value in sizes.items() if value is not None])
    if path:
        yield f"The model was that of the checkpoint {_file(path)}."
    elif known:
        yield (
            "The model was a transformer that reads a cell as tokens of its expressed genes and "
            f"of its phenotypes, as PolyGene does (Khodaee et al. 2025); it had {known}."
        )
    if not path and tuning.get("max_epochs") is not None and target:
        arm = str(tuning.get("arm", "full")).replace("_", " ")
        smoothing = run.section("objective").get("label_smoothing")
        yield (
            f"It was trained to predict the masked label of {target} by cross entropy"
            + (f" (label smoothing {number(float(smoothing))})" if smoothing else "")
            + f" with AdamW ({arm} fine-tuning, learning rate {tuning.get('learning_rate')}, "
            f"weight decay {tuning.get('weight_decay')}, {tuning.get('schedule')} schedule) for "
            f"at most {tuning['max_epochs']} epochs; the epoch of lowest validation loss was kept."
        )
        if data.get("train_tokens"):
            yield f"Training saw a fresh random {data['train_tokens']} genes of a cell each time."
    cells = (run.metrics or {}).get("test/n_cells")
    accuracy = (run.metrics or {}).get("test/balanced_accuracy")
    if accuracy is not None:
        on = f"{number(int(cells))} test cells" if cells else "the test cells"
        yield f"On {on} its balanced accuracy was {number(float(accuracy))}."


def _pairs(run: RunFiles) -> Iterator[str]:
    study, pairs = run.study, run.section("pairs")
    n = (run.metrics or {}).get("pairs/n_pairs", None if run.pairs is None else len(run.pairs))
    if not n or not study.get("input"):
        return
    matched = study.get("match_on")
    if pairs.get("file"):
        how = f"taken from {_file(pairs['file'])}"
    else:
        nearest = pairs.get("matching") == "nearest"
        how = "drawn as the nearest" if nearest else "drawn at random"
        how += f" among cells of equal {joined(matched)}" if matched else ""
        how += " and of the same donor" if pairs.get("donors") == "same" else ""
    yield (
        f"Test cells labelled {study['input']} (inputs) were paired with cells labelled "
        f"{study.get('baseline')} (baselines), {how}; {number(int(n))} pairs were explained."
    )
    if pairs.get("permute_labels") is not None:
        yield "Labels were permuted: this run is a control."
    if run.baseline and run.baseline != "cell_state":
        yield f"Scores are against the {run.baseline.replace('_', ' ')} baseline."


def _attribution(run: RunFiles) -> Iterator[str]:
    if run.method is None:
        return
    settings, study = run.section("attribution"), run.study
    yield (
        f"Genes were scored with {of_method(run.method)}; that paired cells are compared gene by "
        "gene follows gradient-based gene selection (Khodaee et al. 2025)."
    )
    kind = settings.get("target_kind")
    scalars = {
        "margin": f"the margin between the logits of {study.get('input')} and its counterpart",
        "logit": f"the logit of {study.get('input')}",
        "log_probability": f"the log-probability of {study.get('input')}",
        "probability": f"the probability of {study.get('input')}",
    }
    if kind == "margin" and study.get("baseline"):
        scalars["margin"] = f"the logit of {study['input']} less that of {study['baseline']}"
    if kind in scalars and study.get("input"):
        yield f"The explained output was {scalars[kind]}."
    if settings.get("normalize") == "l2":
        yield "The scores of each pair were divided by their Euclidean norm."
    size = (run.metrics or {}).get(f"attribution/{run.method}/relative_delta_p99")
    if isinstance(size, float) and size == size:
        yield (
            "Scores left at most "
            f"{number(size)} of the change in the output unexplained in 99 % of the pairs."
        )
    if run.compared:
        yield f"On the same pairs: {_listed([of_method(name) for name in run.compared])}."


def _genes(run: RunFiles) -> Iterator[str]:
    genes, name = run.ranked_genes, run.ranking_name
    if genes is None or name is None:
        return
    _, _, importance = name.partition("/")
    absolute = importance.endswith("/abs")
    yield (
        f"A gene's score is the mean of its {importance.removesuffix('/abs')} importance over all "
        f"pairs, 0 where neither cell expresses it; {len(genes):,} genes were ranked by "
        f"{'its magnitude' if absolute else 'it'}."
    )
    if "ci_low" in genes and genes["ci_low"].notna().any():
        first, second = donors_of(run)
        over = _listed([f"{n} {m}" for n, m in ((first, "input"), (second, "baseline")) if n])
        yield (
            "Donors are the replicates: 95 % intervals and p values are of t-tests over donor "
            f"means ({over} donors), p adjusted for the number of genes "
            "(Benjamini and Hochberg 1995)."
        )
    else:
        yield f"There are no intervals: they need {MIN_DONORS} donors."
    n_null = run.section("ranking").get("n_null")
    if n_null and "p_null" in genes and genes["p_null"].notna().any():
        yield (
            f"A null distribution came from {number(int(n_null))} random exchanges of the labels "
            "within pairs, its p values adjusted for the number of genes (Benjamini and Hochberg "
            "1995)."
        )


def _pruning(run: RunFiles) -> Iterator[str]:
    curves, settings = run.curves, run.section("pruning")
    if curves is None or curves.empty:
        return
    ratios = sorted({float(r) for r in curves["ratio"]})
    source = {
        "held_out": "made on training pairs and judged on test cells",
        "per_pair": "made on the very pairs they were judged on, which leaks the label",
    }.get(str(settings.get("rank_source")), "")
    how = {"delete": "deleted from", "mask": "masked in"}.get(str(settings.get("removal")), "")
    yield (
        f"Rankings{', ' + source + ',' if source else ''} were compared by pruning: "
        f"{percent(ratios[0])} to {percent(ratios[-1])} of the genes were {how or 'taken from'} "
        "the cells in the order of each ranking, and the model was asked again without retraining."
    )
    there = set(curves["ranking"])
    controls = [_lowered(words) for name, words in CONTROLS.items() if name in there]
    if controls:
        draws = curves.loc[curves["ranking"] == "random", "draw"] if "draw" in curves else ()
        n = len(set(draws))
        more = f"; random orders were drawn {n} times" if n > 1 else ""
        yield f"Controls were {_listed(controls)}{more}."
    if run.retrained is not None:
        yield "For some shares a new model was trained on cells without the removed genes."


def _evaluation(run: RunFiles) -> Iterator[str]:
    settings = run.section("evaluation")
    if run.sanity is not None:
        draws = (settings.get("sanity") or {}).get("n_draws")
        relearnt = (run.sanity["check"] == "label_relearning").any()
        yield (
            "Scores were compared with those of models with random weights"
            + (f" ({draws} draws)" if draws else "")
            + (" and of models trained on permuted labels" if relearnt else "")
            + " (Adebayo et al. 2018)."
        )
    if run.faithfulness is not None:
        found = run.faithfulness
        sampled = found[found["interval_over"] != ""]
        n_pairs = (sampled if len(sampled) else found)["n_pairs"].max()
        yield (
            f"Faithfulness was measured on {number(int(n_pairs))} pairs "
            "by exchanging or deleting genes in the order of the scores."
        )
    if run.effects is not None:
        file = (settings.get("effects") or {}).get("file")
        published = f"those of {_file(file)}{of_data(file)}" if file else "published ones"
        yield (
            "Scores, signed by the direction of change, were compared with log fold changes by "
            f"rank correlation: {published}"
            + (", label by label." if run.effects["label"].nunique() > 1 else ".")
        )
    yield from _stability(run, settings.get("stability") or {})
    yield from _interactions(run, settings.get("interactions") or {})
    if run.consensus is not None:
        yield "Methods were joined by robust rank aggregation (Kolde et al. 2012)."
    if run.enrichment is not None:
        yield (
            "Gene sets among the best genes were tested with Fisher's exact test "
            "(Benjamini and Hochberg 1995)."
        )


def _stability(run: RunFiles, settings: Facts) -> Iterator[str]:
    kinds = set() if run.stability is None else set(run.stability["kind"])
    draws = f"{number(settings['n_draws'])} times " if "n_draws" in settings else ""
    ways = {
        "pairs": f"the pairs were halved at random {draws}and the rankings of both halves compared",
        "donors": "each donor was left out in turn",
    }
    done = [words for kind, words in ways.items() if kind in kinds]
    if done:
        yield f"To see how stable the ranking is, {_listed(done)}."


def _interactions(run: RunFiles, settings: Facts) -> Iterator[str]:
    found = run.interactions
    if found is None:
        return
    how = {
        "finite_differences": "finite differences of the output",
        "integrated_hessians": "integrated Hessians (Janizek et al. 2021)",
    }.get(str(settings.get("method")), "their joint effect")
    n_genes = len({*found["gene_a"], *found["gene_b"]})
    n_pairs = (run.metrics or {}).get("interactions/n_cell_pairs")
    where = f" in {number(int(n_pairs))} pairs of cells" if n_pairs else ""
    yield (
        f"Interactions of every two of {n_genes} genes were measured by {how}{where}, less what a "
        "curvature shared by all genes would give (Otwinowski et al. 2018)."
    )
    if settings.get("n_null") and found["p_adjusted"].notna().any():
        yield (
            f"They were tested by permuting genes within pairs {number(settings['n_null'])} times, "
            "with p adjusted by the largest of all (Westfall and Young 1993)."
        )


def _software(run: RunFiles) -> Iterator[str]:
    found = run.provenance or {}
    packages = found.get("packages") or found.get("versions") or {}
    version = found.get("gradgene") or packages.get("gradgene")
    if version:
        yield f"Computed with gradgene {version}" + _python(found) + "."
    cited = {
        "torch": "PyTorch {} (Paszke et al. 2019)",
        "lightning": "PyTorch Lightning {} (Falcon et al. 2019)",
        "hydra-core": "Hydra {} (Yadan 2019)",
        "captum": "Captum {} (Kokhlikyan et al. 2020)",
        "anndata": "anndata {} (Virshup et al. 2024)",
        "scanpy": "scanpy {} (Wolf et al. 2018)",
    }
    used = [text.format(packages[name]) for name, text in cited.items() if name in packages]
    if used:
        yield f"It builds on {_listed(used)}."
    seed = run.study.get("seed")
    if seed is not None:
        yield f"The seed was {seed}."
    if found.get("config_hash"):
        yield f"The configuration has the hash {found['config_hash']}."


def _python(found: Facts) -> str:
    python, device = found.get("python"), found.get("device")
    return (f" under Python {python}" if python else "") + (f" on {device}" if device else "")


def _file(path: Any) -> str:
    """The last part of a path: where it lay is of no use to a reader of a manuscript."""
    if isinstance(path, list):
        return _listed([_file(one) for one in path])
    return str(path).rstrip("/").rpartition("/")[2]


def _of(count: Any) -> str:
    return f" ({number(count)} genes)" if count is not None else ""


def _lowered(words: str) -> str:
    return words[:1].lower() + words[1:]


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
