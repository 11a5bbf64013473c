"""The released attributions of the gene-selection paper, and their cells as our tokens.

`goldens/ggs_attribution.npz` is the paper's own code, run unmodified on a small checkpoint; a key
is `<run>/<pair>/<base>/…`. Its `raw` scores are summed over the embedding, its `attr` are those
divided by their norm; `rev_` is the exchanged pair.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from gradgene.attribution import Attribution, Target, build_method
from gradgene.checkpoints import LoadedModel, load_checkpoint
from gradgene.pairs import BlendedBatch, blend
from gradgene.tokens import PAD, TokenBatch, Vocabulary

__all__ = [
    "DELTA",
    "PAIRS",
    "Golden",
    "Released",
    "facts_of",
    "golden_cells",
    "normalised_close",
    "padded",
    "probability",
    "raw_close",
    "released_norm",
]

PAIRS = (
    "p0_small_vs_large",
    "p1_random_60_180",
    "p2_identical_genes_new_bins",
    "p3_disjoint_genes",
    "p4_baseline_subset_same_header",
    "p5_random_45_200",
)
#: The tolerance that goldens/README.json states for what scores leave unexplained.
DELTA = 1e-6

#: Input ids and token types of one cell, each (tokens,).
Cell = tuple[Tensor, Tensor]


def facts_of(shared: Path) -> dict[str, Any]:
    """What the fixture's checkpoint does not hold: gene order, phenotypes, bins."""
    file = shared / "fixtures/perturbgene/expected_vocab.json"
    facts: dict[str, Any] = json.loads(file.read_text())
    return facts


def probability(label: str, against: str | None = None) -> Target:
    """The paper's scalar: the probability of a disease among all tokens of the vocabulary."""
    return Target("disease", label, against, kind="probability", vocabulary="all")


@dataclass(frozen=True)
class Golden:
    """One run of the paper's code: "all" categories in the sequence, or a strict "subset"."""

    arrays: Mapping[str, np.ndarray]
    run: str

    @classmethod
    def read(cls, shared: Path, run: str) -> Golden:
        """Everything of a run but its pruning."""
        with np.load(shared / "goldens/ggs_attribution.npz", allow_pickle=False) as file:
            keys = [k for k in file if k.startswith(f"{run}/") and "/prune_" not in k]
            return cls({k.removeprefix(f"{run}/"): file[k] for k in keys}, run)

    def has(self, key: str) -> bool:
        """Whether there is such an array."""
        return key in self.arrays

    def get(self, key: str) -> Tensor:
        """An array as it is, to compare with in its own precision."""
        return torch.from_numpy(self.arrays[key])

    def cell(self, pair: str, member: str, base: str = "pair") -> Cell:
        """A member, "target" or "baseline", "blended_target" or "blended_baseline"."""
        at = f"{pair}/{base}/{member}"
        return self.get(f"{at}/input_ids"), self.get(f"{at}/token_type_ids")

    def places(self, blended: BlendedBatch, p: int, key: str, vocabulary: Vocabulary) -> Tensor:
        """Where the paper's code put each position of our pair `p`; -1 for our padding."""
        types = self.get(f"{key}/blended_token_type_ref").tolist()
        shown = blended.input.attention_mask_nt[p] | blended.baseline.attention_mask_nt[p]
        gene_ids = blended.gene_ids_pt[p].tolist()
        found = torch.full((len(gene_ids),), -1)
        for i in shown.nonzero()[:, 0].tolist():
            if i < blended.n_header:
                found[i] = i
            elif gene_ids[i] < 0:  # [EOS]
                found[i] = len(types) - 1
            else:
                gene_type = vocabulary.gene_offset + gene_ids[i]
                found[i] = types.index(gene_type, blended.n_header)
        assert sorted(found[found >= 0].tolist()) == list(range(len(types)))
        return found


def golden_cells(golden: Golden, pairs: tuple[str, ...], vocabulary: Vocabulary) -> TokenBatch:
    """The targets of the pairs and then their baselines, as the paper's code tokenised them."""
    cells = [golden.cell(p, m) for m in ("target", "baseline") for p in pairs]
    return padded(cells, vocabulary)


def padded(cells: list[Cell], vocabulary: Vocabulary) -> TokenBatch:
    """Token batch of these cells; a type from the first gene's on is a gene."""
    ids_nt, types_nt = (
        torch.nn.utils.rnn.pad_sequence(list(column), batch_first=True, padding_value=fill)
        for column, fill in zip(zip(*cells, strict=True), (PAD, 0), strict=True)
    )
    genes_nt = types_nt - vocabulary.gene_offset
    length_n1 = torch.tensor([len(ids) for ids, _ in cells])[:, None]
    mask_nt = torch.arange(ids_nt.shape[1]) < length_n1
    return TokenBatch(ids_nt, types_nt, mask_nt, torch.where(genes_nt >= 0, genes_nt, -1))


def raw_close(found: Tensor, wanted: Tensor) -> None:
    """Within the tolerance that goldens/README.json states for raw scores."""
    torch.testing.assert_close(found, wanted.to(found.dtype), rtol=1e-4, atol=1e-8)


def normalised_close(found: Tensor, wanted: Tensor) -> None:
    """Within the tolerance that goldens/README.json states for normalised scores."""
    torch.testing.assert_close(found, wanted.to(found.dtype), rtol=0, atol=5e-6)


@dataclass(frozen=True)
class Released:
    """The paper's numbers, and what is needed to compute ours."""

    golden: Golden
    loaded: LoadedModel
    tokens: TokenBatch
    label: str
    #: How many of the tokens are those of cells of the fixture's file.
    n_filed: int

    @classmethod
    def read(cls, shared: Path, run: str) -> Released:
        """The checkpoint of a run and, through its tokenizer, the paper's cells.

        Cells that are not in the fixture's file are made from the paper's tokens. Row p of `tokens`
        is the target of pair p, row p + 6 its baseline.
        """
        facts, golden = facts_of(shared), Golden.read(shared, run)
        folder = shared / "fixtures/perturbgene"
        checkpoint = folder / {"all": "run", "subset": "run_subset"}[run]
        loaded = load_checkpoint(checkpoint, genes=facts["gene_order"])
        wanted = golden_cells(golden, PAIRS, loaded.vocabulary)
        filed = ad.read_h5ad(folder / "cells.h5ad")
        made = as_cells(wanted, loaded.vocabulary)
        tokens = loaded.tokenizer(ad.concat([filed, made], merge="same"))
        rows = torch.tensor([find(tokens, wanted, n) for n in range(len(wanted))])
        n_filed = int((rows < len(filed)).sum())
        return cls(golden, loaded, tokens.take(rows), facts["target_phenotype"], n_filed)

    def attribute(
        self, base: str, method: str, pairs: list[str], double: bool, **parameters: Any
    ) -> tuple[BlendedBatch, Attribution]:
        """Pairs in one batch, both directions at once."""
        rows = torch.tensor([PAIRS.index(p) for p in pairs])
        blended = blend(self.tokens, rows, rows + len(PAIRS))
        if base == "blank":
            blended = blended.without_baseline_genes()
        model = deepcopy(self.loaded.model).double() if double else self.loaded.model
        explainer = build_method(method, **parameters)
        return blended, explainer.attribute(model, blended, probability(self.label))


def as_cells(tokens: TokenBatch, vocabulary: Vocabulary) -> ad.AnnData:
    """Cells that these are the tokens of: a value on the lower edge of each bin."""
    gene_ids_nt = tokens.gene_ids_nt.numpy()
    edges = np.array([0.0, *vocabulary.bin_edges], dtype=np.float32)
    cell, at = np.nonzero(gene_ids_nt >= 0)
    bins = tokens.input_ids_nt.numpy()[cell, at] - vocabulary.bin_offset
    matrix_ng = np.zeros((len(tokens), len(vocabulary.genes)), dtype=np.float32)
    matrix_ng[cell, gene_ids_nt[cell, at]] = edges[bins]
    labels = {
        category: [
            vocabulary.categories[category][list(vocabulary.label_ids(category)).index(i)]
            for i in tokens.input_ids_nt[:, vocabulary.slot(category)].tolist()
        ]
        for category in vocabulary.phenotypes
    }
    names = [f"made{i}" for i in range(len(tokens))]
    var = pd.DataFrame(index=pd.Index(vocabulary.genes, dtype=object))
    return ad.AnnData(matrix_ng, pd.DataFrame(labels, index=names), var)


def find(tokens: TokenBatch, wanted: TokenBatch, n: int) -> int:
    """The first cell with exactly the tokens of cell `n` of the paper's."""
    length = int(wanted.n_tokens_n[n])
    same_nt = torch.ones(len(tokens), dtype=torch.bool)
    for ours, theirs in (
        (tokens.input_ids_nt, wanted.input_ids_nt),
        (tokens.token_type_ids_nt, wanted.token_type_ids_nt),
        (tokens.gene_ids_nt, wanted.gene_ids_nt),
    ):
        same_nt &= (ours[:, :length] == theirs[n, :length]).all(dim=1)
    same_nt &= tokens.n_tokens_n == length
    return int(same_nt.nonzero()[0])


def released_norm(scores_t: Tensor) -> Tensor:
    """Divided by the norm over all tokens, as the paper's code does; zero stays zero."""
    norm = scores_t.norm()
    return scores_t / norm if norm > 0 else scores_t
