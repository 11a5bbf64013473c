"""Fused attention is the textbook's."""

from __future__ import annotations

import pytest
import torch

from gradgene.models import AttentionCore, MultiHeadAttention


def test_core_is_a_masked_softmax() -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    k, v = torch.randn(2, 2, 3, 6, 5, generator=generator, dtype=torch.float64)
    mask_nt = torch.tensor([[True] * 6, [True, False, True, True, False, False]])
    out = AttentionCore()(q, k, v, mask_nt)
    for n in range(2):
        for h in range(3):
            for s in range(4):
                present = [t for t in range(6) if mask_nt[n, t]]
                weight = torch.stack([(q[n, h, s] @ k[n, h, t] / 5**0.5).exp() for t in present])
                mean = sum(w * v[n, h, t] for w, t in zip(weight, present, strict=True))
                torch.testing.assert_close(out[n, h, s], mean / weight.sum(), atol=1e-12, rtol=0)


def test_heads_are_split_and_joined_in_order() -> None:
    """Each head sees its own slice of the projections; their outputs stand side by side."""
    torch.manual_seed(0)
    attention = MultiHeadAttention(6, 2).double()
    x = torch.randn(1, 4, 6, dtype=torch.float64)
    mask_nt = torch.tensor([[True, True, False, True]])
    out = attention(x, mask_nt, x[:, 1:3])
    q, k, v = attention.q_lin(x[0, 1:3]), attention.k_lin(x[0]), attention.v_lin(x[0])
    heads = []
    for part in (slice(0, 3), slice(3, 6)):
        scores = q[:, part] @ k[:, part].T / 3**0.5
        scores[:, 2] = -torch.inf
        heads.append(scores.softmax(dim=-1) @ v[:, part])
    expected = attention.out_lin(torch.cat(heads, dim=-1))
    torch.testing.assert_close(out[0], expected, atol=1e-12, rtol=0)


def test_values_behind_the_mask_do_not_matter() -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(4, 2).double()
    x = torch.randn(1, 5, 4, dtype=torch.float64)
    mask_nt = torch.tensor([[True, True, True, False, False]])
    other = x.clone()
    other[:, 3:] = 1e6
    queries = x[:, :1]
    assert torch.equal(attention(x, mask_nt, queries), attention(other, mask_nt, queries))


def test_width_must_be_divisible() -> None:
    with pytest.raises(ValueError, match="dim 10 is not divisible by n_heads 3"):
        MultiHeadAttention(10, 3)
