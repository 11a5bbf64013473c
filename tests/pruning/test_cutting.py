"""Cuts show what deleting genes one set at a time would, and equal ones are found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradgene.errors import RankingError
from gradgene.pruning.cutting import CellCuts, Cuts
from gradgene.tokens import MASK, TokenBatch
from tests.planted import keep_genes, make_cells, make_tokenizer

CELLS = make_cells(12, 30)
TOKENIZER = make_tokenizer(CELLS)
TOKENS = TOKENIZER(CELLS)
N_GENES = 30


def orders(n: int, seed: int) -> torch.Tensor:
    """(n, genes) random places."""
    rng = np.random.default_rng(seed)
    places = [rng.permutation(N_GENES) for _ in range(n)]
    return torch.from_numpy(np.stack(places).astype(np.int32))


def cell_cuts(place_og: torch.Tensor, removal: str = "delete") -> CellCuts:
    return CellCuts(TOKENS, place_og, removal, MASK)  # type: ignore[arg-type]


def alone(place_g: torch.Tensor, row: int, low: int, high: int) -> TokenBatch:
    """One cell with the genes outside the places low … high - 1 deleted."""
    keep_g = (place_g >= low) & (place_g < high)
    return keep_genes(TOKENS.take(torch.tensor([row])), keep_g)


@st.composite
def some_cuts(draw: st.DrawFn) -> tuple[torch.Tensor, Cuts]:
    """Orders and cuts of any cells by them, empty and whole ones among them."""
    n_orders = draw(st.integers(1, 3))
    n = draw(st.integers(1, 12))
    pick = st.lists(st.integers(0, N_GENES), min_size=n, max_size=n)
    low, high = draw(pick), draw(pick)
    rows = draw(st.lists(st.integers(0, len(TOKENS) - 1), min_size=n, max_size=n))
    order = draw(st.lists(st.integers(0, n_orders - 1), min_size=n, max_size=n))
    columns = (torch.tensor(x) for x in (rows, order, low, high))
    return orders(n_orders, draw(st.integers(0, 5))), Cuts(*columns)


@given(some_cuts())
def test_a_cut_shows_what_deleting_the_other_genes_does(given_: tuple[torch.Tensor, Cuts]) -> None:
    place_og, cuts = given_
    cells = cell_cuts(place_og)
    shown, n_v = cells.show(cuts), cells.n_tokens(cuts)
    assert shown.n_tokens_n.tolist() == n_v.tolist()
    assert shown.input_ids_nt.shape[1] == int(n_v.max())
    for v, (row, order, low, high) in enumerate(_each(cuts)):
        expected = alone(place_og[order], row, low, high)
        for name, x in expected.tensors().items():
            torch.testing.assert_close(shown.tensors()[name][v, : x.shape[1]], x[0])


@given(some_cuts())
def test_equal_cuts_are_those_that_leave_the_same_tokens(
    given_: tuple[torch.Tensor, Cuts],
) -> None:
    place_og, cuts = given_
    first, which = cell_cuts(place_og).distinct(cuts)
    left = [
        (row, *alone(place_og[order], row, low, high).gene_ids_nt[0].tolist())
        for row, order, low, high in _each(cuts)
    ]
    seen = list(dict.fromkeys(left))
    assert [left[i] for i in first.tolist()] == seen
    assert [seen[i] for i in which.tolist()] == left


def test_masking_keeps_lengths_and_hides_the_rest() -> None:
    place_og = orders(1, 0)
    n = len(TOKENS)
    cuts = Cuts(torch.arange(n), *(torch.full((n,), k) for k in (0, 0, 10)))
    shown = cell_cuts(place_og, "mask").show(cuts)
    gone = (TOKENS.gene_ids_nt >= 0) & (place_og[0][TOKENS.gene_ids_nt.clamp(min=0)] >= 10)
    assert bool(gone.any())
    torch.testing.assert_close(shown.n_tokens_n, TOKENS.n_tokens_n)
    torch.testing.assert_close(shown.token_type_ids_nt, TOKENS.token_type_ids_nt)
    assert bool((shown.input_ids_nt[gone] == MASK).all())
    torch.testing.assert_close(shown.input_ids_nt[~gone], TOKENS.input_ids_nt[~gone])


def test_a_digest_tells_cuts_orders_and_cells_apart() -> None:
    cells, other = cell_cuts(orders(1, 0)), cell_cuts(orders(1, 1))
    cuts = Cuts(*(torch.tensor([x]) for x in (0, 0, 0, 5)))
    longer = Cuts(*(torch.tensor([x]) for x in (0, 0, 0, 6)))
    found = [cells.digest(cuts), cells.digest(longer), other.digest(cuts)]
    found.append(cell_cuts(orders(1, 0), "mask").digest(cuts))
    assert len(set(found)) == 4
    assert cells.digest(cuts) == cell_cuts(orders(1, 0)).digest(cuts)


def test_an_order_of_another_panel_is_refused() -> None:
    with pytest.raises(RankingError, match="29 genes"):
        cell_cuts(orders(1, 0)[:, :29])


def _each(cuts: Cuts) -> list[tuple[int, int, int, int]]:
    columns = (cuts.row_v, cuts.order_v, cuts.low_v, cuts.high_v)
    return list(zip(*(x.tolist() for x in columns), strict=True))
