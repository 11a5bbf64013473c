"""Integrated Hessians: the interaction of two genes by second derivatives along a path.

Formula
    For genes i and j, with δ the way from the baseline's state to the input's,

        Γ_ij = ∬ αβ δ_iᵀ ∂²f/∂z_i∂z_j(z' + αβ (z - z')) δ_j dα dβ

    and of a gene with itself the same plus ∬ δ_iᵀ ∂f/∂z_i dα dβ. A gene's z is its embedding and
    its presence p, which goes from 0 or 1 to 0 or 1 and weighs its key in every attention:
    softmax(q kᵀ / √d) with each exponential times p. As all depends on t = αβ alone, whose density
    is -log t on (0, 1), both are single integrals ∫ … (-log t) dt, taken here by the quadrature of
    Gauss for that density: `n_steps` nodes are exact for polynomials of degree 2 n_steps - 1.
    `interaction_pkk` is Γ_ij + Γ_ji, `single_pk` is Γ_ii.
Source
    Janizek, Sturmfels and Lee 2021, "Explaining explanations: axiomatic feature interactions for
    deep networks" (equations 5-7), of the integrated gradients of Sundararajan et al. 2017. The
    double sum over αβ that they take is replaced by the single integral, and presence goes along
    as in `integrated_gradients`.
Promises
    Complete up to the quadrature over all tokens that differ: Σ_ij Γ_ij = f(input) - f(baseline).
    Symmetric in i and j, but not in the members: the path is seen from the baseline. A product of
    two genes is shared by four terms, two of which are the interaction: half of what
    `mixed_differences` gives.
Use it
    Where the model is smooth and a check by other means is wanted: it takes as many passes back
    through the gradient as there are genes, at each of `n_steps` nodes, and says nothing of kinks
    (ReLU), so such models are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gradgene.attribution.interactions import GeneInteractions, prepared
from gradgene.attribution.members import Members, read_at
from gradgene.attribution.method import require_positive
from gradgene.attribution.target import BoundTarget, Target
from gradgene.errors import AttributionError
from gradgene.halving import in_halves, limit_of
from gradgene.models import AttentionCore, PhenotypeGeneTransformer
from gradgene.modes import replaced_forward
from gradgene.pairs import BlendedBatch

__all__ = ["integrated_hessians", "log_nodes"]

#: Nodes of the fine rule by which the measure of `log_nodes` is known; exact to rounding.
FINE = 400


def integrated_hessians(
    model: PhenotypeGeneTransformer,
    blended: BlendedBatch,
    target: Target,
    genes: Sequence[int],
    n_steps: int = 20,
    batch_tokens: int = 8192,
) -> GeneInteractions:
    """Main effects and interactions of genes by second derivatives, in the units of f.

    Parameters
    ----------
    model
        Borrowed: afterwards as before.
    blended
        Pairs on the device of the model; the target category is masked here.
    target
        The scalar f.
    genes
        Gene indices of the vocabulary.
    n_steps
        Nodes of the quadrature.
    batch_tokens
        Padded tokens of the points that are differentiated at a time.

    Raises
    ------
    AttributionError
        If the model has kinks, `n_steps` is not positive, or a value is not finite.
    """
    require_positive("n_steps", n_steps)
    if model.size["activation"] == "relu":
        raise AttributionError(
            "a model of ReLU has no second derivatives but at its kinks",
            where="evaluation.interactions.method",
            fix="use finite_differences",
        )
    t_k, weight_k = log_nodes(n_steps)

    def measure(members: Members, position_pk: Tensor, bound: BoundTarget) -> tuple[Tensor, Tensor]:
        (n_pairs, n_genes), length = position_pk.shape, members.mask_input_pt.shape[1]
        gamma_pkk = torch.zeros(n_pairs, n_genes, n_genes, dtype=torch.float64)
        limit = limit_of(model, "second derivatives")

        def found(some: Tensor) -> Tensor:
            at = (some // n_steps).to(position_pk.device)
            return _at(model, bound, members.take(at), position_pk[at], t_k[some % n_steps])

        rows = torch.arange(n_pairs * n_steps)
        for some in rows.split(max(1, batch_tokens // length)):
            found_rkk = torch.cat(in_halves(found, some, lambda few: len(few) * length, limit))
            weight_rkk = weight_k[some % n_steps, None, None]
            gamma_pkk.index_add_(0, some // n_steps, weight_rkk * found_rkk)
        own_kk = torch.eye(n_genes, dtype=torch.bool)
        both_pkk = gamma_pkk + gamma_pkk.mT
        return gamma_pkk.diagonal(dim1=1, dim2=2).clone(), both_pkk.masked_fill(own_kk, 0)

    with torch.enable_grad():
        return prepared(model, blended, target, genes, measure)


def log_nodes(n: int) -> tuple[Tensor, Tensor]:
    """Nodes t in (0, 1) and weights of the n-point Gauss quadrature of ∫ g(t) (-log t) dt.

    By the procedure of Stieltjes on a fine rule, then Golub and Welsch (1969). float64; weights
    add up to 1.
    """
    u, w = np.polynomial.legendre.leggauss(FINE)
    u = (1 + u) / 2
    # t = u³ takes the singularity at 0 away.
    fine_t, measure = u**3, w / 2 * 3 * u**2 * (-3 * np.log(u))
    centre, off = np.empty(n), np.empty(n)
    before, now = np.zeros(FINE), np.full(FINE, 1 / math.sqrt(measure.sum()))
    for i in range(n):
        centre[i] = (measure * fine_t * now**2).sum()
        after = (fine_t - centre[i]) * now - (off[i - 1] * before if i else 0)
        off[i] = math.sqrt((measure * after**2).sum())
        before, now = now, after / off[i]
    jacobi = np.diag(centre) + np.diag(off[:-1], 1) + np.diag(off[:-1], -1)
    t, vectors = np.linalg.eigh(jacobi)
    return torch.from_numpy(t), torch.from_numpy(vectors[0] ** 2)


def _at(
    model: PhenotypeGeneTransformer,
    target: BoundTarget,
    members: Members,
    position_rk: Tensor,
    t_r: Tensor,
) -> Tensor:
    """t δᵀ (∂²f) δ of every two genes, plus δᵀ ∂f on the diagonal: (rows, genes, genes)."""
    mask_i, mask_b = members.mask_input_pt, members.mask_baseline_pt
    t_r = t_r.to(members.difference_ptd)
    way_rtd, rise_rt = members.x_input_ptd - members.x_baseline_ptd, mask_i.to(t_r) - mask_b.to(t_r)
    x_rtd = (members.x_baseline_ptd + t_r[:, None, None] * way_rtd).requires_grad_(True)
    p_rt = (mask_b.to(t_r) + t_r[:, None] * rise_rt).requires_grad_(True)
    place_rk = position_rk.clamp(min=0)
    moved_rk = position_rk >= 0
    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, AttentionCore):
                stack.enter_context(replaced_forward(module, partial(_attend, p_rt)))
        f_r = read_at(model, "total", x_rtd, mask_i | mask_b, target)

        def along(y: Tensor, *, again: bool) -> Tensor:
            """δᵀ ∂y of every gene, (rows, genes); 0 for one that is not moved."""
            # Materialised: a model without attention leaves the presence out.
            g_x, g_p = torch.autograd.grad(
                y,
                [x_rtd, p_rt],
                create_graph=again,
                retain_graph=True,
                materialize_grads=True,
            )
            h_rt = (g_x * way_rtd).sum(dim=-1) + g_p * rise_rt
            return h_rt.gather(1, place_rk) * moved_rk

        h_rk = along(f_r.sum(), again=True)
        second_rkk = torch.diag_embed(torch.zeros_like(h_rk))
        if h_rk.requires_grad:  # f may be linear
            second_rkk = torch.stack([along(h.sum(), again=False) for h in h_rk.unbind(1)], dim=1)
    gamma_rkk = t_r[:, None, None] * second_rkk + torch.diag_embed(h_rk)
    return gamma_rkk.detach().double().cpu()


def _attend(p_nt: Tensor, q: Tensor, k: Tensor, v: Tensor, mask_nt: Tensor) -> Tensor:
    """Attention to keys of presence `p_nt`, plainly: fused kernels have no second derivative."""
    score = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    score = score.masked_fill(~mask_nt[:, None, None, :], -math.inf)
    weight = (score - score.amax(dim=-1, keepdim=True).detach()).exp() * p_nt[:, None, None, :]
    return weight @ v / weight.sum(dim=-1, keepdim=True)
