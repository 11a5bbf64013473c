"""The text for a manuscript says what the configuration says, and cites whom it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gradgene.attribution import METHODS
from gradgene.evaluation.interactions import INTERACTION_COLUMNS
from gradgene.reports import RunFiles
from gradgene.reports.sections import methods_text
from gradgene.reports.sections.references import REFERENCES, of_data, of_method
from tests.reports.synthetic import CONFIG, gene_table, write_run

CITED = re.compile(r"(?:[A-Z][a-z]+-)?[A-Z][a-z]+(?: et al\.| and [A-Z][a-z]+)? \d{4}(?!\d)")

FOUND_BY = re.compile(
    r"doi:10\.\d{4,}/|arXiv:\d{4}\.\d{4,5}|github\.com/|openreview\.net/|ISBN [\d-]{13}"
)

FULL: dict[str, Any] = {
    **CONFIG,
    "data": {
        "path": "/somewhere/else/kang.h5ad",
        "values": "counts",
        "genes": 2000,
        "gene_rule": "variance",
        "binning": "fixed",
        "bin_edges": [0.1, 1.5, 3.0],
        "train_tokens": 300,
    },
    "model": {"dim": 64, "n_layers": 2, "n_heads": 4},
    "checkpoint": {"path": None},
    "finetune": {
        "arm": "last_k",
        "learning_rate": 0.002,
        "weight_decay": 0.01,
        "schedule": "warmup_cosine",
        "max_epochs": 7,
    },
    "objective": {"label_smoothing": 0.1},
    "attribution": {"target_kind": "margin", "normalize": "l2"},
    "pairs": {"matching": "nearest", "donors": "same", "max_pairs": 160},
    "ranking": {"importance": "forward", "sign": "signed", "n_null": 100},
    "pruning": {"rank_source": "held_out", "removal": "mask", "controls": ["hvg"]},
}


def paragraphs(folder: Path, config: dict[str, Any], **changes: object) -> str:
    run = RunFiles.read(write_run(folder, {"config.yaml": config, **changes}, n_genes=60))
    found = methods_text(run)
    return "\n".join((*found.paragraphs, *found.references))


def test_facts_are_those_of_the_configuration(tmp_path: Path) -> None:
    text = paragraphs(tmp_path, FULL)
    for fact in (
        *("24,562 cells were read from kang.h5ad", "those with demuxlet_call singlet"),
        *("scaled to 10,000 per cell", "The 2,000 most variable genes", "rule: variance"),
        *("3 bins at 0.1, 1.5, 3;", "held-out donors", "16,100 train and 4,312 test cells"),
        *("2 layers, 4 attention heads and 64 dimensions", "masked label of condition"),
        *("label smoothing 0.1", "last k fine-tuning", "learning rate 0.002", "warmup_cosine"),
        *("at most 7 epochs", "random 300 genes", "balanced accuracy was 0.957"),
        *("drawn as the nearest among cells of equal cell_type and of the same donor",),
        *("160 pairs were explained", "the logit of IFN-beta stimulated less that of control"),
        *("divided by their Euclidean norm", "at most 5.2e-07 of the change"),
        *("mean of its forward importance", "60 genes were ranked by it"),
        *("(4 input and 4 baseline donors)", "100 random exchanges"),
        *("0 % to 98 % of the genes were masked in", "made on training pairs and judged on test"),
        *("random orders were drawn 10 times", "gradgene 0.1.0", "PyTorch 2.13.0", "seed was 0"),
    ):
        assert fact in text, fact
    assert "/somewhere" not in text


def test_every_citation_has_its_reference_and_no_more(tmp_path: Path) -> None:
    run = RunFiles.read(write_run(tmp_path, {"config.yaml": FULL}, n_genes=60))
    found = methods_text(run)
    cited = {match for text in found.paragraphs for match in CITED.findall(text)}
    assert cited == {key for key, text in REFERENCES.items() if text in found.references}
    assert {"Shrikumar et al. 2017", "Benjamini and Hochberg 1995"} <= cited


def test_what_was_measured_beside_is_said_and_cited(tmp_path: Path) -> None:
    evaluation = {
        "effects": {"file": "/shared/kang2018_tableS1_ifnb_de_by_cell_type.tsv.gz"},
        "stability": {"n_draws": 20},
        "interactions": {"method": "integrated_hessians", "n_null": 1000},
    }
    steady = pd.DataFrame({"kind": ["pairs", "donors"], "n_pairs": 9, "spearman": 0.9})
    pairs = pd.DataFrame(dict.fromkeys(INTERACTION_COLUMNS, 0.25), index=range(3))
    pairs = pairs.assign(gene_a=["A", "A", "B"], gene_b=["B", "C", "C"])
    metrics = {"interactions/n_cell_pairs": 32, "pairs/n_pairs": 160}
    tables = {"stability": steady.assign(top_overlap=0.8), "interactions": pairs}
    files = {f"evaluation/{name}.parquet": table for name, table in tables.items()}
    config = {**FULL, "evaluation": evaluation}
    text = paragraphs(tmp_path, config, **{"metrics.json": metrics}, **files)
    for fact in (
        "those of kang2018_tableS1_ifnb_de_by_cell_type.tsv.gz (Kang et al. 2018), label by label",
        "halved at random 20 times and the rankings of both halves compared and each donor was",
        "every two of 3 genes were measured by integrated Hessians (Janizek et al. 2021) in 32",
        "permuting genes within pairs 1,000 times, with p adjusted by the largest of all (Westfall",
    ):
        assert fact in text, fact
    assert "Janizek JD" in text and "nbt.4042" in text and "0-471-55761-7" in text


@pytest.mark.parametrize(
    ("path", "cited"),
    [
        ("/some/where/kang2018_pbmc_ifnb.h5ad", "Kang et al. 2018"),
        ("csle_pbmc_lymphocytes.h5ad", "Nehar-Belaid et al. 2020"),
        ("bundled:pbmc68k", "Zheng et al. 2017"),
        ("my_kang2018.h5ad", ""),
        (["a.h5ad", "b.h5ad"], ""),
    ],
)
def test_known_data_are_cited(path: Any, cited: str) -> None:
    assert of_data(path) == (f" ({cited})" if cited else "")
    assert not cited or cited in REFERENCES


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_in_words_and_cited(method: str) -> None:
    text = of_method(method)
    assert text != method and set(CITED.findall(text)) <= set(REFERENCES)
    assert method == "random" or CITED.findall(text)


def test_references_name_what_they_are_called_by() -> None:
    for key, text in REFERENCES.items():
        surname, year = re.split(r"[ .]", key)[0], key[-4:]
        assert text.startswith(surname) and f"({year})" in text, key
        assert FOUND_BY.search(text), key


def test_what_was_not_done_is_not_said(tmp_path: Path) -> None:
    config = {**FULL, "checkpoint": {"path": "/models/geneformer"}, "pruning": {}}
    bare = gene_table(60).assign(ci_low=float("nan"), ci_high=float("nan"), p_null=float("nan"))
    parts: dict[str, object] = {
        "attributions/genes.parquet": bare,
        "pruning/curves.parquet": None,
        "attributions/enrichment.parquet": None,
        "provenance.json": None,
    }
    text = paragraphs(tmp_path, config, **parts)
    assert "checkpoint geneformer" in text and "AdamW" not in text
    assert "There are no intervals" in text and "exchanges" not in text
    assert "pruning" not in text and "gradgene" not in text and "Hochberg" not in text


def test_a_leaking_ranking_is_called_one(tmp_path: Path) -> None:
    config = {**FULL, "pruning": {"rank_source": "per_pair", "removal": "delete"}}
    assert "which leaks the label" in paragraphs(tmp_path, config)


def test_an_empty_run_has_no_text(tmp_path: Path) -> None:
    found = methods_text(RunFiles(tmp_path, metrics={}))
    assert found.paragraphs == () and found.references == ()
