"""The model card: what a folder with a model says to whoever finds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gradgene.models import PhenotypeGeneTransformer
from gradgene.tokens import Tokenizer

__all__ = ["ModelFacts", "model_card"]

#: Longer lists are counted and not written out.
LISTED = 12


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model besides the model itself.

    Parameters
    ----------
    target
        Category it was trained to name; None where it was trained on masked tokens.
    data, data_hash
        Name and hash of the cells it was trained on.
    metrics
        Measurements by name, such as `test/balanced_accuracy`.
    """

    target: str | None = None
    data: str | None = None
    data_hash: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


def model_card(
    model: PhenotypeGeneTransformer,
    tokenizer: Tokenizer,
    trained_on: Sequence[str] = (),
    facts: ModelFacts | None = None,
) -> str:
    """README.md in Markdown, with the few lines of metadata that model hubs read."""
    facts = facts or ModelFacts()
    category = facts.target or model.classified or tokenizer.vocabulary.phenotypes[0]
    sections = [
        "---\nlibrary_name: gradgene\ntags:\n- single-cell\n- transcriptomics\n---",
        "# Phenotype and gene transformer",
        _what(model, tokenizer, facts),
        "## Input\n\n" + _table(_input(tokenizer)),
        "## Training\n\n" + _table(_training(trained_on, facts)),
        "## Metrics\n\n" + _metrics(facts.metrics),
        "## Use\n\n" + _use(tokenizer, category),
    ]
    return "\n\n".join(sections) + "\n"


def _use(tokenizer: Tokenizer, category: str) -> str:
    return f"""```python
from gradgene.checkpoints import load_checkpoint

loaded = load_checkpoint("this/folder")
tokens = loaded.tokenizer(adata)  # AnnData of {tokenizer.schema.values} values
embeddings = loaded.model.embed(tokens)  # (cells, tokens, width)
logits = loaded.model.read(embeddings, tokens.attention_mask_nt, "{category}")  # (cells, input ids)
```

`gradgene attribute checkpoint.path=this/folder ...` explains it. Without gradgene: `config.json`
has the sizes, `model.safetensors` the tensors by name, `vocabulary.json` what every id means."""


def _what(model: PhenotypeGeneTransformer, tokenizer: Tokenizer, facts: ModelFacts) -> str:
    size = model.size
    n = sum(parameter.numel() for parameter in model.parameters())
    task = f"names the {facts.target} of a cell" if facts.target else "fills in masked tokens"
    reads = (
        f"a classifier on `[CLS]` for {size['classifier']}"
        if size["classifier"]
        else "the masked slot of a category"
    )
    return (
        f"A transformer over phenotype labels and expressed genes of single cells that {task}, "
        f"read at {reads}. {size['n_layers']} layers of width {size['dim']}, {size['n_heads']} "
        f"heads, feed-forward width {size['hidden_dim']}; {n:,} parameters."
    )


def _input(tokenizer: Tokenizer) -> dict[str, str]:
    vocabulary = tokenizer.vocabulary
    rows = {"genes": f"{len(vocabulary.genes):,}"}
    rows["expression bins from"] = ", ".join(f"{edge:g}" for edge in vocabulary.bin_edges)
    for category in vocabulary.phenotypes:
        rows[category] = _names(vocabulary.categories[category])
    return rows


def _training(trained_on: Sequence[str], facts: ModelFacts) -> dict[str, str]:
    return {
        "cells": facts.data or "not recorded",
        "hash of the cells": facts.data_hash or "not recorded",
        "donors it must not be judged on": _names(trained_on) if trained_on else "not recorded",
    }


def _metrics(metrics: Mapping[str, float]) -> str:
    if not metrics:
        return "Not recorded."
    return _table({name: f"{value:.4g}" for name, value in metrics.items()})


def _names(names: Sequence[str]) -> str:
    """Their number, and the names themselves if they are few."""
    return f"{len(names)}: {', '.join(names)}" if len(names) <= LISTED else str(len(names))


def _table(rows: Mapping[str, str]) -> str:
    lines = [f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])
