"""Take from a model what it learnt, from the head down, or from genes what they are.

Source
    The cascading randomisation of Adebayo et al. 2018 ("Sanity checks for saliency maps",
    NeurIPS, §3): scores that stay as they are while the weights are drawn anew do not explain the
    model.
Shuffled genes
    One permutation of the panel, the same in every cell: gene j takes the values of gene π(j).
    Cells keep their values, their depth and their labels, and what differs between the labels
    still does, so that only the gene a value belongs to has changed. (Values permuted anew in each
    cell would take the difference between the labels away as well, and leave nothing to rank by.)
    Two things are then told apart: scores that stay with their gene follow what the model holds of
    the gene whatever its values; scores that move with the values follow the values whatever the
    gene. The ranking of a method that reads both reproduces neither.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from scipy import sparse

from gradgene.cells import Cells
from gradgene.errors import AttributionError
from gradgene.models import PhenotypeGeneTransformer

__all__ = ["cascade", "randomised", "shuffle_genes"]

#: How the names of the embeddings' tensors begin, which are the last to go.
EMBEDDINGS = ("value_embedding.", "identity_embedding.", "embedding_norm.")


def cascade(model: PhenotypeGeneTransformer) -> dict[str, tuple[str, ...]]:
    """Steps of the cascade in their order, each with the names of the tensors it takes.

    "head" (everything behind the blocks), "block n" … "block 1" (the one next to the embeddings)
    and "embeddings"; a step that has no tensor is left out. Together they are all of them. Of a
    tied head the projector, which is the value embedding, goes with the embeddings.
    """
    steps: dict[str, list[str]] = {"head": []}
    steps |= {f"block {i + 1}": [] for i in reversed(range(len(model.blocks)))}
    steps["embeddings"] = []
    for name in model.state_dict():
        if name.startswith("blocks."):
            steps[f"block {int(name.split('.')[1]) + 1}"].append(name)
        else:
            steps["embeddings" if name.startswith(EMBEDDINGS) else "head"].append(name)
    return {step: tuple(names) for step, names in steps.items() if names}


#: Sets the random numbers of these copies apart from those of a training with the same seed.
_APART = 0x5A17


def randomised(
    model: PhenotypeGeneTransformer, depth: int, seed: int = 0
) -> PhenotypeGeneTransformer:
    """A copy of the model whose first `depth` steps of the cascade are as before any training.

    Weights are drawn by the model's own initialisation, from `seed` alone: a deeper cascade of the
    same seed keeps what a shallower one drew. The model itself and torch's own random numbers
    are left as they are.

    Raises
    ------
    AttributionError
        For a depth that the model does not have.
    """
    steps = cascade(model)
    if not 0 <= depth <= len(steps):
        raise AttributionError(
            "the model is not so deep", expected=f"0 to {len(steps)}", found=str(depth)
        )
    with torch.random.fork_rng(devices=[]):
        # Numbers of its own: a training with this very seed began with the weights torch draws.
        own = int(np.random.SeedSequence([seed, _APART]).generate_state(1)[0])
        torch.default_generator.manual_seed(own)
        fresh = PhenotypeGeneTransformer(model.vocabulary, **model.size).state_dict()
    drawn = {name for names in [*steps.values()][:depth] for name in names}
    made = deepcopy(model)
    tensors = made.state_dict()
    made.load_state_dict({k: fresh[k] if k in drawn else v for k, v in tensors.items()})
    return made


def shuffle_genes(cells: Cells, seed: int = 0) -> tuple[Cells, np.ndarray]:
    """The cells with the panel's genes permuted, and `from_g` (genes,): gene j has the values of
    gene `from_g[j]`. No gene keeps its own, unless there is only one.
    """
    n = len(cells.genes)
    order = np.random.default_rng(seed).permutation(n)
    from_g = np.empty(n, dtype=np.int64)
    from_g[order] = np.roll(order, 1)  # one cycle through all genes
    return replace(cells, matrix_ng=sparse.csr_matrix(cells.matrix_ng[:, from_g])), from_g
