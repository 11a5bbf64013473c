"""A model that reads one gene and nothing else, and cells in which that gene says everything."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor, nn

from gradgene.cells import Cells, CellSchema
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pruning import GeneRanking, Judged
from gradgene.tokens import MASK, TokenBatch, Tokenizer, Vocabulary

__all__ = [
    "GENES",
    "OneGeneReader",
    "judge",
    "one_gene_reader",
    "ranking",
    "telling_cells",
    "telling_tokenizer",
]

GENES = tuple(f"g{i}" for i in range(10))


class OneGeneReader(nn.Module):
    """Says `case` where the gene of index `gene` is present and not masked, else `control`."""

    def __init__(self, vocabulary: Vocabulary, gene: int) -> None:
        super().__init__()
        self.vocabulary, self.gene = vocabulary, gene
        self.weight = nn.Parameter(torch.zeros(1))

    def embed(self, tokens: TokenBatch) -> Tensor:
        """1 at the position of the gene, 0 elsewhere: (cells, tokens, 1)."""
        its_type = self.vocabulary.gene_offset + self.gene
        here_nt = (tokens.token_type_ids_nt == its_type) & (tokens.input_ids_nt != MASK)
        return here_nt[..., None].float()

    def read(self, embeddings_ntd: Tensor, attention_mask_nt: Tensor, category: str) -> Tensor:
        """Logits over input ids: +4 for the label that the gene announces."""
        present_n = (embeddings_ntd[..., 0] * attention_mask_nt).sum(dim=1)
        logits_nv = torch.zeros(len(present_n), self.vocabulary.n_values)
        logits_nv[:, self.vocabulary.label_id("disease", "case")] = 4 * present_n
        logits_nv[:, self.vocabulary.label_id("disease", "control")] = 4 * (1 - present_n)
        return logits_nv


def one_gene_reader(vocabulary: Vocabulary, gene: int = 0) -> PhenotypeGeneTransformer:
    """An `OneGeneReader` in the type that `predict` and `prune` are declared for."""
    return cast(PhenotypeGeneTransformer, OneGeneReader(vocabulary, gene).eval())


def telling_cells(n: int = 24, n_donors: int = 3) -> Cells:
    """`n` log-normalised cells: case where even; g0 in every case cell and in no control cell."""
    rng = np.random.default_rng(0)
    values_ng = rng.uniform(0.5, 3, (n, len(GENES))) * (rng.random((n, len(GENES))) < 0.6)
    values_ng[:, 0] = np.resize([2.0, 0.0], n)
    values_ng[:, -1] = 1.0
    obs = pd.DataFrame(
        {
            "disease": np.resize(["case", "control"], n),
            "donor": np.repeat([f"d{i}" for i in range(n_donors)], -(-n // n_donors))[:n],
        },
        index=[f"cell{i}" for i in range(n)],
    )
    schema = CellSchema(("disease",), donor="donor", values="lognorm")
    matrix = sparse.csr_matrix(values_ng.astype(np.float32))
    return Cells(matrix, obs, GENES, ("",) * len(GENES), schema)


def telling_tokenizer(cells: Cells) -> Tokenizer:
    """A tokenizer of three bins for `telling_cells`."""
    return Tokenizer(Vocabulary.from_cells(cells, (0.1, 1.5, 2.5)), cells.schema)


def judge(cells: Cells, tokenizer: Tokenizer, donors: bool = True) -> Judged:
    """All `cells` to judge, case against control."""
    labels = tokenizer.vocabulary.categories["disease"]
    return Judged(
        tokens=tokenizer.encode(cells),
        truth_n=np.array([labels.index(label) for label in cells.obs["disease"]]),
        donors_n=cells.obs["donor"].to_numpy(dtype=str) if donors else None,
        target="disease",
        input="case",
        baseline="control",
        seed=5,
    )


def ranking(*best_first: str, name: str = "deeplift/forward", draw: int = 0) -> GeneRanking:
    """A ranking of `GENES` with these first, in this order, and the others after them."""
    order = [*best_first, *(g for g in GENES if g not in best_first)]
    scores_g = np.array([-float(order.index(g)) for g in GENES])
    return GeneRanking(name, GENES, scores_g, draw)
