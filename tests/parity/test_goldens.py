"""The gene-selection paper's own attribution code, run unmodified on a small checkpoint.

Its `DeepLift` (Captum, total embedding, probability over the whole vocabulary) must be our
`grad_x_delta`. The tensors are renamed here one by one and its tokens are taken as they are, so
that this test needs no loader and unpickles nothing; `test_goldens_whole_way` goes through both.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gradgene.attribution import DeepLift, GradXDelta, Target
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, blend
from gradgene.tokens import Vocabulary
from tests.attribution.toys import one_way
from tests.parity.goldens import PAIRS, Golden, facts_of, golden_cells, probability, raw_close

#: Ours -> the checkpoint's; `{i}` is the layer.
TENSORS = {
    "value_embedding": "distilbert.embeddings.word_embeddings",
    "identity_embedding": "distilbert.embeddings.token_type_embeddings",
    "embedding_norm": "distilbert.embeddings.LayerNorm",
    "blocks.{i}.attention.q_lin": "distilbert.transformer.layer.{i}.attention.q_lin",
    "blocks.{i}.attention.k_lin": "distilbert.transformer.layer.{i}.attention.k_lin",
    "blocks.{i}.attention.v_lin": "distilbert.transformer.layer.{i}.attention.v_lin",
    "blocks.{i}.attention.out_lin": "distilbert.transformer.layer.{i}.attention.out_lin",
    "blocks.{i}.sa_layer_norm": "distilbert.transformer.layer.{i}.sa_layer_norm",
    "blocks.{i}.lin1": "distilbert.transformer.layer.{i}.ffn.lin1",
    "blocks.{i}.lin2": "distilbert.transformer.layer.{i}.ffn.lin2",
    "blocks.{i}.output_layer_norm": "distilbert.transformer.layer.{i}.output_layer_norm",
    "head_transform": "vocab_transform",
    "head_norm": "vocab_layer_norm",
    "head_projector": "vocab_projector",
}


@pytest.fixture(scope="module")
def golden(shared: Path) -> Golden:
    return Golden.read(shared, "all")


@pytest.fixture(scope="module")
def facts(shared: Path) -> dict[str, Any]:
    facts = facts_of(shared)
    file = shared / "fixtures/perturbgene/run/phenotypic_tokens_map.json"
    return facts | {"map": json.loads(file.read_text())}


@pytest.fixture(scope="module")
def model(shared: Path, facts: dict[str, Any]) -> PhenotypeGeneTransformer:
    folder = shared / "fixtures/perturbgene/run/checkpoint-1000"
    config = json.loads((folder / "config.json").read_text())
    vocabulary = Vocabulary(
        categories={c: tuple(labels) for c, labels in facts["map"].items()},
        phenotypes=tuple(facts["included_phenotypes"]["run"]),
        genes=tuple(facts["gene_order"]),
        bin_edges=tuple(float(e) for e in facts["bin_edges"]),
    )
    made = PhenotypeGeneTransformer(
        vocabulary, **{k: config[k] for k in ("dim", "n_layers", "n_heads", "hidden_dim")}
    )
    theirs = load_file(folder / "model.safetensors")
    state = {}
    for ours, other in TENSORS.items():
        for i in range(config["n_layers"] if "{i}" in ours else 1):
            for part in ("weight", "bias"):
                if f"{other.format(i=i)}.{part}" in theirs:
                    state[f"{ours.format(i=i)}.{part}"] = theirs.pop(f"{other.format(i=i)}.{part}")
    assert not theirs
    made.load_state_dict(state)
    return made


def asked(facts: dict[str, Any]) -> Target:
    return probability(f"[{facts['target_phenotype'].replace(' ', '_')}]")


def blended_as_released(golden: Golden, pair: str, vocabulary: Vocabulary) -> BlendedBatch:
    cells = golden_cells(golden, (pair,), vocabulary)
    return blend(cells, torch.tensor([0]), torch.tensor([1]))


@pytest.mark.parametrize("pair", PAIRS)
def test_grad_x_delta_is_the_papers_deeplift(
    pair: str, golden: Golden, facts: dict[str, Any], model: PhenotypeGeneTransformer
) -> None:
    key = f"{pair}/pair"
    blended = blended_as_released(golden, pair, model.vocabulary)
    at = golden.places(blended, 0, key, model.vocabulary)
    for name, pairs in (("raw", blended), ("rev_raw", blended.swap())):
        scores = one_way(GradXDelta(), model, pairs, asked(facts))
        raw_close(scores.scores_pt[0], golden.get(f"{key}/dl/{name}")[at])
        if name == "raw":
            f = (float(scores.f_input_p), float(scores.f_baseline_p))
            assert f == pytest.approx(golden.get(f"{key}/prob")[:2].tolist(), rel=1e-4)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_empty_baseline_is_the_papers_blank_one(
    pair: str, golden: Golden, facts: dict[str, Any], model: PhenotypeGeneTransformer
) -> None:
    """The input against its own phenotypes; the paper leaves the other cell's genes out."""
    key = f"{pair}/blank"
    cells = golden_cells(golden, (pair,), model.vocabulary)
    alone = blend(cells, torch.tensor([0]), torch.tensor([0])).without_baseline_genes()
    at = golden.places(alone, 0, key, model.vocabulary)
    scores = one_way(GradXDelta(), model, alone, asked(facts))
    raw_close(scores.scores_pt[0], golden.get(f"{key}/dl/raw")[at])
    assert (scores.scores_pt[alone.gene_ids_pt >= 0] != 0).any()
    # Backward, input and baseline differ in genes alone, and the input has none.
    backward = one_way(GradXDelta(), model, alone.swap(), asked(facts))
    assert not backward.scores_pt.any() and not golden.get(f"{key}/dl/rev_raw").any()


@pytest.mark.parametrize("pair", PAIRS)
def test_deeplift_explains_what_the_papers_leaves_open(
    pair: str, golden: Golden, facts: dict[str, Any], model: PhenotypeGeneTransformer
) -> None:
    blended = blended_as_released(golden, pair, model.vocabulary)
    exact = deepcopy(model).double()
    ours = one_way(DeepLift(), exact, blended, asked(facts))
    papers = one_way(GradXDelta(), exact, blended, asked(facts))
    assert float(ours.relative_delta_p) <= 1e-10
    assert float(papers.relative_delta_p) > 0.03
