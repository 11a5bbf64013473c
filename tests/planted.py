"""Tiny synthetic cells with planted truth, and models and pairs made of them.

Genes `g0 … g4` are up in `case`, `g5 … g9` are up in `control`; the others do not differ. Cells are
of two disease states, three cell types and two sexes, and come from donors `d0 … d3`.
"""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor

from gradgene.cells import Cells, CellSchema, cells_from_anndata
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, PairSampler, blend
from gradgene.tokens import TokenBatch, Tokenizer, Vocabulary

__all__ = [
    "BIN_EDGES",
    "CASE_GENES",
    "CONTROL_GENES",
    "PHENOTYPES",
    "VARIANTS",
    "keep_genes",
    "make_adata",
    "make_cells",
    "make_model",
    "make_pairs",
    "make_tokenizer",
]

#: What a model can be made of, by a name for test ids; `disease` has a classifier where named.
VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "pre-norm": {"norm_first": True},
    "rms": {"norm": "rms"},
    "pre-norm-rms-silu": {"norm": "rms", "norm_first": True, "activation": "silu"},
    "relu": {"activation": "relu"},
    "silu": {"activation": "silu"},
    "tied": {"tied": True},
    "sphere": {"head": "sphere"},
    "tied-sphere": {"head": "sphere", "tied": True, "embedding_norm_eps": 1e-6},
    "classifier": {"classifier": "disease"},
    "classifier-alone": {"head": "none", "classifier": "disease"},
    "pre-norm-classifier": {"norm_first": True, "head": "none", "classifier": "disease"},
}

CASE_GENES = tuple(f"g{i}" for i in range(5))
CONTROL_GENES = tuple(f"g{i}" for i in range(5, 10))
PHENOTYPES = ("disease", "cell_type", "sex")
#: Values are log1p of 10,000 a cell over about 50 genes, so most lie between 4 and 7.
BIN_EDGES = (0.1, 4.0, 5.0, 6.0, 7.0)


def make_adata(
    n: int = 60, n_genes: int = 50, *, n_donors: int = 4, seed: int = 0, empty: int = 0
) -> ad.AnnData:
    """Counts (n cells, n_genes >= 10) as CSR float32; the last `empty` cells are all zero.

    Half of the cells, at random, are `case`. About half of the entries are zero.
    """
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "disease": rng.permutation(np.resize(["case", "control"], n)),
            "cell_type": rng.choice(["B cell", "NK cell", "T cell"], n),
            "sex": rng.choice(["female", "male"], n),
            "donor": rng.choice([f"d{i}" for i in range(n_donors)], n),
        },
        index=[f"cell{i}" for i in range(n)],
    )
    mean_ng = np.tile(rng.uniform(0.3, 1.5, n_genes), (n, 1))
    case_n = (obs["disease"] == "case").to_numpy()
    mean_ng[np.ix_(case_n, np.arange(5))] += 3.0
    mean_ng[np.ix_(~case_n, np.arange(5, 10))] += 3.0
    counts_ng = rng.poisson(mean_ng).astype(np.float32)
    counts_ng[:, -1] += 1  # no cell is all-zero by chance
    counts_ng[n - empty :] = 0
    return ad.AnnData(
        sparse.csr_matrix(counts_ng),
        obs=obs,
        var=pd.DataFrame(
            {"ensembl_id": [f"ENSG{i:011d}" for i in range(n_genes)]},
            index=[f"g{i}" for i in range(n_genes)],
        ),
    )


def make_cells(
    n: int = 60, n_genes: int = 50, *, n_donors: int = 4, seed: int = 0, donor: bool = True
) -> Cells:
    """`make_adata` read as `Cells` of counts; without a donor column if not `donor`."""
    adata = make_adata(n, n_genes, n_donors=n_donors, seed=seed)
    return cells_from_anndata(adata, CellSchema(PHENOTYPES, donor="donor" if donor else None))


def make_tokenizer(cells: Cells) -> Tokenizer:
    """A tokenizer whose vocabulary holds every label and gene of `cells`."""
    return Tokenizer(Vocabulary.from_cells(cells, BIN_EDGES), cells.schema)


def make_model(vocabulary: Vocabulary, *, seed: int = 0, **size: Any) -> PhenotypeGeneTransformer:
    """A random float64 model in evaluation mode, with weights so large that attention is uneven.

    Width 16, two layers, two heads, else as `size` says; biases and norms are random as well.
    """
    model = PhenotypeGeneTransformer(
        vocabulary, **{"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, **size}
    )
    model = model.double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            if "norm" in name:
                weight.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
            elif name == "temperature":
                weight.copy_(torch.tensor(0.25))
            elif "embedding" in name:
                weight.copy_(noise)
            elif name.endswith("bias"):
                weight.copy_(0.3 * noise)
            else:
                weight.copy_(1.5 * noise / weight.shape[1] ** 0.5)
    return model


def make_pairs(cells: Cells, tokens: TokenBatch, *, n: int = 8, seed: int = 0) -> BlendedBatch:
    """`n` case/control pairs of the same cell type, blended."""
    sampler = PairSampler("disease", "case", "control", ("cell_type",), max_pairs=n, seed=seed)
    table = sampler.sample(cells).table
    return blend(
        tokens,
        torch.tensor(table["input_row"].to_numpy()),
        torch.tensor(table["baseline_row"].to_numpy()),
    )


def keep_genes(tokens: TokenBatch, keep_g: Tensor) -> TokenBatch:
    """Without the tokens of genes whose entry in `keep_g` (genes,) is False."""
    is_gene_nt = tokens.gene_ids_nt >= 0
    return tokens.keep(~is_gene_nt | keep_g[tokens.gene_ids_nt.clamp(min=0)])
