"""Random cells and strongly non-linear random models, with every shape chosen by the caller.

Freshly initialised weights (standard deviation 0.02) make a nearly linear model, on which a wrong
rule still looks complete. These weights are large enough that attention is far from uniform and
that GELU bends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gradgene.attribution import (
    AttributionMethod,
    DirectionScores,
    Target,
)
from gradgene.models import PhenotypeGeneTransformer
from gradgene.modes import HOOKS, explaining
from gradgene.pairs import BlendedBatch, blend
from gradgene.tokens import CLS, EOS, PAD, TokenBatch, Vocabulary, mask_category

__all__ = [
    "KINDS",
    "MARGIN",
    "N_GENES",
    "VOCABULARY",
    "at_positions",
    "blended_pairs",
    "cells_of",
    "everything",
    "one_way",
    "random_cells",
    "random_model",
    "same",
    "shuffled_positions",
    "target",
]

N_GENES = 12
VOCABULARY = Vocabulary(
    categories={"disease": ("case", "control", "other"), "sex": ("female", "male")},
    phenotypes=("sex", "disease"),
    genes=tuple(f"g{i}" for i in range(N_GENES)),
    bin_edges=(0.1, 1.0, 2.0, 3.0),
)
MARGIN = Target("disease", "case", against="control")
KINDS = ("margin", "logit", "log_probability", "probability")


def target(kind: str, vocabulary: str = "category") -> Target:
    """`case` against `control`, read as `kind`."""
    return Target("disease", "case", "control", kind, vocabulary)  # type: ignore[arg-type]


def cells_of(
    genes_of: Sequence[Sequence[int]], bins_of: Sequence[Sequence[int]], labels: Tensor
) -> TokenBatch:
    """Cells with these genes and bins; `labels` (cells, 2) input ids of sex and disease."""
    header = 1 + len(VOCABULARY.phenotypes)
    n, length = len(genes_of), header + max(map(len, genes_of)) + 1
    ids = torch.full((n, length), PAD)
    types = torch.zeros((n, length), dtype=torch.int64)
    gene_ids = torch.full((n, length), -1)
    ids[:, 0] = CLS
    ids[:, 1:header] = labels
    types[:, 1:header] = torch.tensor([VOCABULARY.category_type(c) for c in VOCABULARY.phenotypes])
    mask = torch.zeros((n, length), dtype=torch.bool)
    for i, (genes, bins) in enumerate(zip(genes_of, bins_of, strict=True)):
        end = header + len(genes)
        gene_ids[i, header:end] = torch.as_tensor(genes)
        types[i, header:end] = VOCABULARY.gene_offset + torch.as_tensor(genes)
        ids[i, header:end] = VOCABULARY.bin_offset + torch.as_tensor(bins)
        ids[i, end] = EOS
        mask[i, : end + 1] = True
    return TokenBatch(ids, types, mask, gene_ids)


def random_cells(n: int, seed: int = 0, max_genes: int = 9) -> TokenBatch:
    """`n` cells of 1 … `max_genes` random genes with random bins and labels."""
    draw = torch.Generator().manual_seed(seed)
    genes_of, bins_of = [], []
    for _ in range(n):
        size = int(torch.randint(1, max_genes + 1, (1,), generator=draw))
        genes_of.append(torch.randperm(N_GENES, generator=draw)[:size].sort().values.tolist())
        bins_of.append(torch.randint(1, 5, (size,), generator=draw).tolist())
    labels = torch.stack(
        [
            torch.randint(
                VOCABULARY.label_ids(c)[0], VOCABULARY.label_ids(c)[-1] + 1, (n,), generator=draw
            )
            for c in VOCABULARY.phenotypes
        ],
        dim=1,
    )
    return cells_of(genes_of, bins_of, labels)


def random_model(
    seed: int = 0, dtype: torch.dtype = torch.float64, n_layers: int = 2, **size: Any
) -> PhenotypeGeneTransformer:
    """A model of width 8 with two heads, large random weights and biases, in training mode."""
    model = PhenotypeGeneTransformer(
        VOCABULARY, dim=8, n_layers=n_layers, n_heads=2, hidden_dim=16, dropout=0.5, **size
    )
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
            parameter.copy_(0.5 * noise)
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm | torch.nn.RMSNorm):
                module.weight.abs_().add_(0.5)
        if size.get("head") == "sphere":
            model.temperature.fill_(0.25)
    return model.to(dtype)


def blended_pairs(n: int, seed: int = 0, max_genes: int = 9) -> BlendedBatch:
    """`n` pairs of `2 n` random cells, the disease not masked yet."""
    cells = random_cells(2 * n, seed, max_genes)
    return blend(cells, torch.arange(n), torch.arange(n, 2 * n))


def one_way(
    method: AttributionMethod,
    model: PhenotypeGeneTransformer,
    blended: BlendedBatch,
    asked: Target = MARGIN,
) -> DirectionScores:
    """One direction, computed and not derived from the other, with the target masked."""
    masked, _ = mask_category(blended.cells, model.vocabulary, asked.category)
    with explaining(model):
        return method.one_way(model, blended.with_cells(masked), asked.bind(model.vocabulary))


def at_positions(blended: BlendedBatch, order_pt: Tensor) -> BlendedBatch:
    """The same pairs laid out in another order of positions; -1 adds an empty position."""

    def moved(x_pt: Tensor) -> Tensor:
        return x_pt.gather(1, order_pt.clamp(min=0)).masked_fill(order_pt < 0, -1)

    columns_i, columns_b = moved(blended.input_columns_pt), moved(blended.baseline_columns_pt)
    gene_ids_pt = moved(blended.gene_ids_pt)
    # `with_cells` shows the members anew; until then only the shape of `input` has to agree.
    blank = TokenBatch(gene_ids_pt, gene_ids_pt, gene_ids_pt >= 0, gene_ids_pt)
    laid_out = replace(
        blended,
        input_columns_pt=columns_i,
        baseline_columns_pt=columns_b,
        gene_ids_pt=gene_ids_pt,
        input=blank,
        baseline=blank,
    )
    return laid_out.with_cells(blended.cells)


def shuffled_positions(blended: BlendedBatch, more: int = 3, seed: int = 0) -> Tensor:
    """An order for `at_positions`: anywhere behind the phenotypes, with `more` empty positions."""
    p, t = blended.gene_ids_pt.shape
    header = blended.n_header
    order_pt = torch.full((p, t + more), -1)
    draw = torch.Generator().manual_seed(seed)
    for i in range(p):
        places = header + torch.randperm(t + more - header, generator=draw)[: t - header]
        order_pt[i, :header] = torch.arange(header)
        order_pt[i, places] = torch.arange(header, t)
    return order_pt


def everything(model: nn.Module) -> dict[str, Any]:
    """Weights, gradients, flags, hooks and instance attributes named `forward`."""
    state: dict[str, Any] = {k: v.clone() for k, v in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        state[f"{name} flags"] = (parameter.requires_grad, parameter.grad is None)
    for name, module in model.named_modules():
        hooks = [len(getattr(module, kind)) for kind in HOOKS]
        state[f"{name} module"] = (module.training, "forward" in vars(module), hooks)
    return state


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two pictures of `everything` agree to the last bit."""

    def pairs() -> Iterator[bool]:
        for key, value in one.items():
            is_tensor = isinstance(value, Tensor)
            yield torch.equal(value, other[key]) if is_tensor else value == other[key]

    return one.keys() == other.keys() and all(pairs())
