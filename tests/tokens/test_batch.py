"""Deleting, choosing and masking tokens against plain lists."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gradgene.errors import TokenError
from gradgene.pairs import BlendedBatch
from gradgene.tokens import MASK, PAD, TokenBatch, Tokenizer, mask_category
from tests.planted import make_cells, make_tokenizer

Row = list[tuple[int, ...]]
#: What stands where there is no token, in the order of the fields.
PADDING = (PAD, 0, False, -1)


def rows(tokens: TokenBatch) -> list[Row]:
    """Each cell as a list of its tokens' four numbers, padding included."""
    columns = [tensor.tolist() for tensor in tokens.tensors().values()]
    return [list(zip(*cell, strict=True)) for cell in zip(*columns, strict=True)]


def padded(cells: list[Row]) -> list[Row]:
    length = max(map(len, cells), default=0)
    return [cell + [PADDING] * (length - len(cell)) for cell in cells]


def random_flags(tokens: TokenBatch, seed: int, share: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(tokens.input_ids_nt.shape, generator=generator) < share


@pytest.fixture(scope="module")
def tokens() -> TokenBatch:
    cells = make_cells(n=12)
    return make_tokenizer(cells)(cells)


@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_keep_against_lists(tokens: TokenBatch, seed: int, share: float) -> None:
    keep_nt = random_flags(tokens, seed, share)
    expected = [
        [token for token, kept in zip(cell, flags, strict=True) if kept and token[2]]
        for cell, flags in zip(rows(tokens), keep_nt.tolist(), strict=True)
    ]
    kept = tokens.keep(keep_nt)
    assert rows(kept) == padded(expected)


@given(chosen=st.lists(st.integers(0, 11)))
def test_take_against_lists(tokens: TokenBatch, chosen: list[int]) -> None:
    expected = [[token for token in rows(tokens)[row] if token[2]] for row in chosen]
    assert rows(tokens.take(torch.tensor(chosen, dtype=torch.int64))) == padded(expected)


def test_take_cuts_no_token_behind_a_gap(tiny_pairs: BlendedBatch) -> None:
    """A blended member has padding between its tokens."""
    for member in (tiny_pairs.input, tiny_pairs.baseline):
        for row in range(len(member)):
            taken = member.take(torch.tensor([row]))
            assert rows(taken)[0] == rows(member)[row][: taken.input_ids_nt.shape[1]]
            assert taken.n_tokens_n.item() == member.n_tokens_n[row].item()


def test_nothing_is_changed_in_place(tokens: TokenBatch) -> None:
    before = rows(tokens)
    tokens.keep(random_flags(tokens, 0, 0.5))
    tokens.take(torch.tensor([1]))
    assert rows(tokens) == before
    with pytest.raises(FrozenInstanceError):
        tokens.input_ids_nt = tokens.gene_ids_nt  # type: ignore[misc]


def test_to_moves_every_tensor(tokens: TokenBatch) -> None:
    moved = tokens.to("meta", non_blocking=True)
    assert {tensor.device.type for tensor in moved.tensors().values()} == {"meta"}
    assert rows(tokens.to(torch.device("cpu"))) == rows(tokens)


def test_shapes_and_mask_are_checked(tokens: TokenBatch) -> None:
    with pytest.raises(TokenError, match="differ in shape"):
        replace(tokens, gene_ids_nt=tokens.gene_ids_nt[:, 1:])
    with pytest.raises(TokenError, match="differ in shape"):
        TokenBatch(*(tensor[0] for tensor in tokens.tensors().values()))
    with pytest.raises(TokenError, match="must be bool"):
        replace(tokens, attention_mask_nt=tokens.attention_mask_nt.long())


def test_mask_category(tiny_tokenizer: Tokenizer, tiny_tokens: TokenBatch) -> None:
    vocabulary = tiny_tokenizer.vocabulary
    masked, labels_n = mask_category(tiny_tokens, vocabulary, "cell_type")
    assert labels_n.tolist() == tiny_tokens.input_ids_nt[:, 2].tolist()
    assert set(labels_n.tolist()) == set(vocabulary.label_ids("cell_type"))
    assert (masked.input_ids_nt[:, 2] == MASK).all()
    changed = masked.input_ids_nt != tiny_tokens.input_ids_nt
    assert changed.nonzero()[:, 1].unique().tolist() == [2]
    assert masked.token_type_ids_nt is tiny_tokens.token_type_ids_nt
    with pytest.raises(TokenError, match="'tissue' is not part of the sequence"):
        mask_category(tiny_tokens, vocabulary, "tissue")
