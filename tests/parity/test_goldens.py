"""The gene-selection paper's own attribution code, run unmodified on a small checkpoint.

Its `DeepLift` (Captum, total embedding, probability over the whole vocabulary) must be our
`grad_x_delta`. The tensors are renamed here one by one, so that this test needs no loader and
unpickles nothing.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gradgene.attribution import DeepLift, GradXDelta, Target
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, blend
from gradgene.tokens import TokenBatch, Vocabulary
from tests.attribution.toys import one_way

PAIRS = (
    "p0_small_vs_large",
    "p1_random_60_180",
    "p2_identical_genes_new_bins",
    "p3_disjoint_genes",
    "p4_baseline_subset_same_header",
    "p5_random_45_200",
)
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
def golden(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "goldens/ggs_attribution.npz", allow_pickle=False) as file:
        return {k: file[k] for k in file if k.startswith("all/") and "/prune_" not in k}


@pytest.fixture(scope="module")
def facts(shared: Path) -> dict[str, Any]:
    folder = shared / "fixtures/perturbgene"
    facts = json.loads((folder / "expected_vocab.json").read_text())
    facts["map"] = json.loads((folder / "run/phenotypic_tokens_map.json").read_text())
    return facts


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
    label = f"[{facts['target_phenotype'].replace(' ', '_')}]"
    return Target(facts["masked_category"], label, kind="probability", vocabulary="all")


def cells_of(golden: dict[str, np.ndarray], key: str, vocabulary: Vocabulary) -> TokenBatch:
    """The two members of a pair as the paper's code tokenised them, unblended."""
    rows = []
    for member in ("target", "baseline"):
        ids, types = (
            torch.from_numpy(golden[f"{key}/pair/{member}/{name}"])
            for name in ("input_ids", "token_type_ids")
        )
        genes = torch.where(types >= vocabulary.gene_offset, types - vocabulary.gene_offset, -1)
        rows.append((ids, types, torch.ones_like(ids, dtype=torch.bool), genes))
    columns = zip(*rows, strict=True)
    padding = (3, 0, False, -1)
    return TokenBatch(
        *(
            torch.nn.utils.rnn.pad_sequence(list(c), batch_first=True, padding_value=float(fill))
            for c, fill in zip(columns, padding, strict=True)
        )
    )


def places(blended: BlendedBatch, golden: dict[str, np.ndarray], key: str) -> Tensor:
    """Where the paper's code put each of our positions: genes by gene, the rest in order."""
    types = torch.from_numpy(golden[f"{key}/blended_token_type_ref"])
    gene = blended.gene_ids_pt[0] + 1 + 5  # gene types follow 0 and five categories
    found = torch.full_like(gene, -1)
    for i, g in enumerate(blended.gene_ids_pt[0]):
        if g >= 0:
            (at,) = (types == gene[i]).nonzero()
            found[i] = at
    header = blended.n_header
    found[:header] = torch.arange(header)
    # What is left is [EOS], of our union and of theirs.
    assert (found < 0).sum() == 1
    (last,) = set(range(len(types))) - set(found.tolist())
    found[found < 0] = last
    return found


@pytest.mark.parametrize("pair", PAIRS)
def test_grad_x_delta_is_the_papers_deeplift(
    pair: str,
    golden: dict[str, np.ndarray],
    facts: dict[str, Any],
    model: PhenotypeGeneTransformer,
) -> None:
    key = f"all/{pair}/pair"
    cells = cells_of(golden, f"all/{pair}", model.vocabulary)
    blended = blend(cells, torch.tensor([0]), torch.tensor([1]))
    at = places(blended, golden, key)
    for name, pairs in (("raw", blended), ("rev_raw", blended.swap())):
        scores = one_way(GradXDelta(), model, pairs, asked(facts))
        expected = torch.from_numpy(golden[f"{key}/dl/{name}"])[at]
        torch.testing.assert_close(scores.scores_pt[0], expected, rtol=1e-4, atol=1e-8)
        if name == "raw":
            f = (float(scores.f_input_p), float(scores.f_baseline_p))
            assert f == pytest.approx(golden[f"{key}/prob"][:2].tolist(), rel=1e-4)


@pytest.mark.parametrize("pair", PAIRS)
def test_the_empty_baseline_is_the_papers_blank_one(
    pair: str,
    golden: dict[str, np.ndarray],
    facts: dict[str, Any],
    model: PhenotypeGeneTransformer,
) -> None:
    """The input against its own phenotypes; the paper leaves the other cell's genes out."""
    cells = cells_of(golden, f"all/{pair}", model.vocabulary)
    alone = blend(cells, torch.tensor([0]), torch.tensor([0])).without_baseline_genes()
    scores = one_way(GradXDelta(), model, alone, asked(facts))
    expected = torch.from_numpy(golden[f"all/{pair}/blank/dl/raw"])
    at = places(alone, golden, f"all/{pair}/blank")
    torch.testing.assert_close(scores.scores_pt[0], expected[at], rtol=1e-4, atol=1e-8)
    assert (scores.scores_pt[alone.gene_ids_pt >= 0] != 0).any()


@pytest.mark.parametrize("pair", PAIRS)
def test_deeplift_explains_what_the_papers_leaves_open(
    pair: str,
    golden: dict[str, np.ndarray],
    facts: dict[str, Any],
    model: PhenotypeGeneTransformer,
) -> None:
    cells = cells_of(golden, f"all/{pair}", model.vocabulary)
    blended, exact = blend(cells, torch.tensor([0]), torch.tensor([1])), deepcopy(model).double()
    ours = one_way(DeepLift(), exact, blended, asked(facts))
    papers = one_way(GradXDelta(), exact, blended, asked(facts))
    assert float(ours.relative_delta_p) <= 1e-10
    assert float(papers.relative_delta_p) > 0.03
