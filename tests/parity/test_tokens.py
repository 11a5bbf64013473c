"""Tokens of the published tokenizers, run unmodified on small cells: ours are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch

from gradgene.checkpoints import load_checkpoint
from gradgene.checkpoints.peer_tokenizers import peer_tokenizer
from gradgene.tokens import TokenBatch, Tokenizer, Vocabulary, mask_category

PERTURBGENE_RUNS = [("run", "all"), ("run_subset", "subset"), ("run_cls", "subset")]


def tokenizer_of(kind: str, folder: Path, genes: list[str] | None = None) -> Tokenizer:
    config = json.loads((folder / "config.json").read_text())
    return peer_tokenizer(kind, folder, config, genes)


def facts_of(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "expected_vocab.json").read_text())
    return facts


def assert_tokens(tokens: TokenBatch, golden: np.lib.npyio.NpzFile, prefix: str) -> None:
    """Every cell: the same ids and types, and nothing but padding behind them."""
    assert len(tokens) == sum(key.startswith(f"{prefix}tokens/") for key in golden) // 2
    for row in range(len(tokens)):
        ids = golden[f"{prefix}tokens/{row}/input_ids"]
        n = len(ids)
        assert tokens.input_ids_nt[row, :n].tolist() == ids.tolist()
        types = golden[f"{prefix}tokens/{row}/token_type_ids"]
        assert tokens.token_type_ids_nt[row, :n].tolist() == types.tolist()
        assert tokens.attention_mask_nt[row].tolist() == [
            t < n for t in range(tokens.attention_mask_nt.shape[1])
        ]


def assert_batch(tokens: TokenBatch, golden: np.lib.npyio.NpzFile, prefix: str) -> None:
    """The padded batch that the published collator makes of the first cells."""
    n, length = golden[f"{prefix}batch/input_ids"].shape
    first = {name: tensor[:n, :length].numpy() for name, tensor in tokens.tensors().items()}
    for ours, theirs in (
        ("input_ids_nt", "input_ids"),
        ("token_type_ids_nt", "token_type_ids"),
        ("attention_mask_nt", "attention_mask"),
    ):
        np.testing.assert_array_equal(first[ours], golden[f"{prefix}batch/{theirs}"])


def assert_vocabulary(vocabulary: Vocabulary, facts: dict[str, Any]) -> None:
    """Where every token of the flat vocabulary is, and which type every category has."""
    texts = facts["flattened_tokens"]
    for category in facts["phenotypic_types"]:
        for label, i in zip(
            vocabulary.categories[category], vocabulary.label_ids(category), strict=True
        ):
            assert texts[i] == vocabulary.layout.token(category, label)
    assert texts[vocabulary.bin_offset] == "bin_0"
    assert texts[vocabulary.pad_id].lower() == "[pad]"
    assert texts[vocabulary.mask_id].lower() == "[mask]"
    n_labels = sum(len(vocabulary.label_ids(c)) for c in vocabulary.categories)
    assert 4 + n_labels + len(vocabulary.bins) + 1 == len(texts)
    assert list(vocabulary.categories) == facts["phenotypic_types"]
    assert vocabulary.gene_offset == facts["gene_token_type_offset"]
    assert (vocabulary.n_values, vocabulary.n_types) == (
        facts["vocab_size"],
        facts["type_vocab_size"],
    )


@pytest.mark.parametrize(("run", "prefix"), PERTURBGENE_RUNS)
def test_perturbgene(run: str, prefix: str, shared: Path) -> None:
    folder = shared / "fixtures" / "perturbgene"
    facts = facts_of(folder)
    tokenizer = tokenizer_of("perturbgene", folder / run / "checkpoint-1000", facts["gene_order"])
    vocabulary = tokenizer.vocabulary
    assert_vocabulary(vocabulary, facts)
    name = "run" if run == "run" else "run_subset"
    assert list(vocabulary.phenotypes) == facts["included_phenotypes"][name]
    assert vocabulary.n_header == facts["genes_start_ind"][name]
    assert vocabulary.layout.max_length == facts["max_length"]
    tokens = tokenizer(ad.read_h5ad(folder / "cells.h5ad"))
    with np.load(folder / "expected.npz") as golden:
        assert_tokens(tokens, golden, f"{prefix}/")
        assert_batch(tokens, golden, f"{prefix}/")


@pytest.mark.parametrize("kind", ["polygene_cam", "polygene_dv"])
def test_the_classes_after_perturbgene(kind: str, shared: Path) -> None:
    folder = shared / "fixtures" / kind
    tokenizer = tokenizer_of(kind, folder / "run" / "checkpoint-1000")
    assert_vocabulary(tokenizer.vocabulary, facts_of(folder))
    adata = ad.read_h5ad(folder / "cells.h5ad")
    tokens = tokenizer(adata)
    with np.load(folder / "expected.npz") as golden:
        assert_tokens(tokens, golden, "")
        assert_batch(tokens, golden, "")
    # What a reader of cells calls missing is the label `unknown` to these models.
    for column in adata.obs:
        unknown = adata.obs[column].astype(object)
        adata.obs[column] = unknown.where(unknown != "unknown", np.nan)
    assert adata.obs["sex"].isna().any()
    again = tokenizer(adata)
    assert (again.input_ids_nt == tokens.input_ids_nt).all()


@pytest.mark.parametrize("prefix", ["all", "noage"])
def test_polygene_bert(prefix: str, shared: Path) -> None:
    folder = shared / "fixtures" / "polygene_bert"
    adata = ad.read_h5ad(folder / "cells.h5ad")
    if prefix == "noage":
        del adata.obs["development_stage"]
    genes = list(adata.var.sort_values("highly_variable_rank").index)
    tokenizer = tokenizer_of("polygene_bert", folder / "checkpoint-1000", genes)
    vocabulary = tokenizer.vocabulary
    ids = facts_of(folder)["vocab"]
    for category in vocabulary.categories:
        for label, i in zip(
            vocabulary.categories[category], vocabulary.label_ids(category), strict=True
        ):
            assert ids[vocabulary.layout.token(category, label)] == i
    assert vocabulary.bin_offset == ids["0"]
    assert vocabulary.n_values == len(ids)
    with np.load(folder / "expected.npz") as golden:
        np.testing.assert_allclose(vocabulary.bin_edges, golden["bin_edges"][1:], rtol=0, atol=0)
        tokens = tokenizer(adata)
        np.testing.assert_array_equal(tokens.input_ids_nt, golden[f"{prefix}/input_ids"])
        np.testing.assert_array_equal(tokens.attention_mask_nt, golden[f"{prefix}/attention_mask"])
    assert tokens.token_type_ids_nt.tolist() == [list(range(len(genes) + 8))] * 6


def test_a_model_reads_the_same_without_what_it_does_not_attend_to(shared: Path) -> None:
    folder = shared / "fixtures" / "polygene_bert"
    adata = ad.read_h5ad(folder / "cells.h5ad")
    loaded = load_checkpoint(folder / "checkpoint-1000", genes=list(adata.var_names))
    model, tokens = loaded.model, loaded.tokenizer(adata)
    compact = tokens.compact()
    assert compact.input_ids_nt.shape[1] < tokens.input_ids_nt.shape[1]
    for category in loaded.vocabulary.phenotypes:
        whole, part = (
            model.read(model.embed(shown), shown.attention_mask_nt, category)
            for shown in (
                mask_category(t, model.vocabulary, category)[0] for t in (tokens, compact)
            )
        )
        torch.testing.assert_close(part, whole, atol=1e-5, rtol=1e-5)
