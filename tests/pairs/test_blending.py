"""Blending against sets, against the model, and against the released code."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gradgene.errors import PairError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, blend
from gradgene.tokens import CLS, EOS, PAD, TokenBatch, Tokenizer, mask_category
from tests.planted import make_cells, make_model, make_tokenizer

HEADER = 3  # [CLS] and two phenotypes
GENE_OFFSET = 3
GOLDEN_PAIRS = (
    "p0_small_vs_large",
    "p1_random_60_180",
    "p2_identical_genes_new_bins",
    "p3_disjoint_genes",
    "p4_baseline_subset_same_header",
    "p5_random_45_200",
)

Cell = dict[int, int]  # gene -> input id
cells_strategy = st.lists(
    st.dictionaries(st.integers(0, 11), st.integers(20, 25), min_size=1), min_size=1, max_size=5
)


def build(ids: list[list[int]], genes: list[list[int]], types: list[list[int]]) -> TokenBatch:
    """Pad lists of tokens to a batch."""
    n, length = len(ids), max(map(len, ids))
    batch = [
        torch.full((n, length), PAD),
        torch.zeros((n, length), dtype=torch.int64),
        torch.zeros((n, length), dtype=torch.bool),
        torch.full((n, length), -1),
    ]
    for row, columns in enumerate(zip(ids, types, genes, strict=True)):
        size = len(ids[row])
        batch[0][row, :size], batch[1][row, :size], batch[3][row, :size] = map(
            torch.tensor, columns
        )
        batch[2][row, :size] = True
    return TokenBatch(*batch)


def batch_of(cells: list[Cell], eos: bool = True) -> TokenBatch:
    """`[CLS] label label genes [EOS]`; the labels are 10 + row and 16."""
    tail = int(eos)
    ids = [
        [CLS, 10 + row, 16, *(cell[g] for g in sorted(cell)), *[EOS] * tail]
        for row, cell in enumerate(cells)
    ]
    genes = [[-1, -1, -1, *sorted(cell), *[-1] * tail] for cell in cells]
    types = [[0, 1, 2, *(GENE_OFFSET + g for g in sorted(c)), *[0] * tail] for c in cells]
    return build(ids, genes, types)


def union(a: Cell, b: Cell) -> list[int]:
    """Shared, input-only and baseline-only genes, each block by gene index."""
    return [
        *sorted(a.keys() & b.keys()),
        *sorted(a.keys() - b.keys()),
        *sorted(b.keys() - a.keys()),
    ]


def check_member(member: TokenBatch, p: int, row: int, cell: Cell, genes: list[int]) -> None:
    """One member of one pair, token by token."""
    shown = [g in cell for g in genes]
    rest = member.input_ids_nt.shape[1] - HEADER - len(genes) - 1
    ids = [CLS, 10 + row, 16, *(cell.get(g, PAD) for g in genes), EOS, *[PAD] * rest]
    types = [0, 1, 2, *(GENE_OFFSET + g if g in cell else 0 for g in genes), *[0] * (1 + rest)]
    assert member.input_ids_nt[p].tolist() == ids
    assert member.token_type_ids_nt[p].tolist() == types
    assert member.attention_mask_nt[p].tolist() == [True] * 3 + shown + [True] + [False] * rest
    gene_ids = [-1] * 3 + [g if g in cell else -1 for g in genes] + [-1] * (1 + rest)
    assert member.gene_ids_nt[p].tolist() == gene_ids


@given(cells=cells_strategy, data=st.data())
def test_against_sets(cells: list[Cell], data: st.DataObject) -> None:
    row = st.integers(0, len(cells) - 1)
    pairs = data.draw(st.lists(st.tuples(row, row), min_size=1, max_size=6))
    blended = blend(batch_of(cells), *torch.tensor(pairs).T)
    assert len(blended) == len(pairs)
    assert blended.n_header == HEADER
    for p, (i, b) in enumerate(pairs):
        genes = union(cells[i], cells[b])
        rest = blended.gene_ids_pt.shape[1] - HEADER - len(genes)
        assert blended.gene_ids_pt[p].tolist() == [-1] * HEADER + genes + [-1] * rest
        check_member(blended.input, p, i, cells[i], genes)
        check_member(blended.baseline, p, b, cells[b], genes)
    longest = max(len(union(cells[i], cells[b])) for i, b in pairs)
    assert blended.gene_ids_pt.shape[1] == HEADER + longest + 1


@given(cells=cells_strategy, data=st.data())
def test_columns_lead_back_to_the_cells(cells: list[Cell], data: st.DataObject) -> None:
    row = st.integers(0, len(cells) - 1)
    pairs = torch.tensor(data.draw(st.lists(st.tuples(row, row), min_size=1, max_size=6)))
    tokens = batch_of(cells)
    blended = blend(tokens, pairs[:, 0], pairs[:, 1])
    for rows_p, columns_pt, member in (
        (blended.input_rows_p, blended.input_columns_pt, blended.input),
        (blended.baseline_rows_p, blended.baseline_columns_pt, blended.baseline),
    ):
        assert torch.equal(columns_pt >= 0, member.attention_mask_nt)
        for p, t in (columns_pt >= 0).nonzero().tolist():
            place = rows_p[p], columns_pt[p, t]
            assert tokens.input_ids_nt[place] == member.input_ids_nt[p, t]
            assert tokens.token_type_ids_nt[place] == member.token_type_ids_nt[p, t]
        for p in range(len(blended)):  # every token of the cell is shown exactly once
            shown = columns_pt[p][columns_pt[p] >= 0].tolist()
            assert sorted(shown) == list(range(int(tokens.n_tokens_n[rows_p[p]])))


def test_tokens_without_eos() -> None:
    blended = blend(batch_of([{1: 20}, {0: 21, 4: 22}], eos=False), [0], [1])  # type: ignore[arg-type]
    assert blended.gene_ids_pt.tolist() == [[-1, -1, -1, 1, 0, 4]]
    assert blended.input.input_ids_nt.tolist() == [[CLS, 10, 16, 20, PAD, PAD]]
    assert blended.baseline.input_ids_nt.tolist() == [[CLS, 11, 16, PAD, 21, 22]]


def test_a_cut_cell_has_no_eos_and_the_other_does() -> None:
    cut = batch_of([{1: 20}, {2: 21}]).keep(torch.tensor([[True] * 5, [True] * 4 + [False]]))
    blended = blend(cut, torch.tensor([0, 1]), torch.tensor([1, 0]))
    assert blended.input.input_ids_nt.tolist() == [
        [CLS, 10, 16, 20, PAD, EOS],
        [CLS, 11, 16, 21, PAD, PAD],
    ]
    assert blended.baseline.input_ids_nt.tolist() == [
        [CLS, 11, 16, PAD, 21, PAD],
        [CLS, 10, 16, PAD, 20, EOS],
    ]
    assert blended.input.attention_mask_nt.tolist()[1] == [True] * 4 + [False] * 2


def test_what_is_not_attended_to_is_left_out() -> None:
    """As the genes that a cell of PolyGene-BERT does not express; its `[PAD]` is another too."""
    whole = replace(batch_of([{1: 20, 2: 20, 5: 22}, {2: 21}]), pad_id=7)
    hidden_nt = torch.zeros_like(whole.attention_mask_nt)
    hidden_nt[0, 4] = True  # gene 2
    tokens = replace(
        whole,
        attention_mask_nt=whole.attention_mask_nt & ~hidden_nt,
        gene_ids_nt=whole.gene_ids_nt.masked_fill(hidden_nt, -1),
    )
    blended = blend(tokens, torch.tensor([0]), torch.tensor([1]))
    assert blended.gene_ids_pt.tolist() == [[-1, -1, -1, 1, 5, 2, -1]]
    assert blended.input.input_ids_nt.tolist() == [[CLS, 10, 16, 20, 22, 7, EOS]]
    assert blended.baseline.input_ids_nt.tolist() == [[CLS, 11, 16, 7, 7, 21, EOS]]


def test_the_model_reads_a_blended_cell_like_a_compact_one() -> None:
    """Float32, 500 random pairs; each cell alone, without any padding, is the reference."""
    cells = make_cells(n=40)
    tokenizer = make_tokenizer(cells)
    tokens, _ = mask_category(tokenizer(cells), tokenizer.vocabulary, "disease")
    model = make_model(tokenizer.vocabulary).float()
    with torch.inference_mode():
        alone_n = torch.cat([read(model, tokens.take(torch.tensor([row]))) for row in range(40)])
        assert alone_n.std(dim=0).max() > 0.05  # cells differ, so agreement means something
        pairs = torch.randint(40, (500, 2), generator=torch.Generator().manual_seed(0))
        blended = blend(tokens, pairs[:, 0], pairs[:, 1])
        torch.testing.assert_close(
            read(model, blended.input), alone_n[pairs[:, 0]], atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            read(model, blended.baseline), alone_n[pairs[:, 1]], atol=1e-5, rtol=0
        )


def read(model: PhenotypeGeneTransformer, tokens: TokenBatch) -> Tensor:
    """Probabilities at the slot of `disease`."""
    return model.read(model.embed(tokens), tokens.attention_mask_nt, "disease").softmax(dim=-1)


def equal(a: TokenBatch, b: TokenBatch) -> bool:
    ours, theirs = a.tensors(), b.tensors()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def same(a: BlendedBatch, b: BlendedBatch) -> bool:
    ours = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)]
    ours = [(x, y) for x, y in ours if x is not None or y is not None]
    return all(torch.equal(x, y) if isinstance(x, Tensor) else equal(x, y) for x, y in ours)


def test_swapping_exchanges_the_members(tiny_pairs: BlendedBatch) -> None:
    swapped = tiny_pairs.swap()
    assert equal(swapped.input, tiny_pairs.baseline)
    assert equal(swapped.baseline, tiny_pairs.input)
    assert torch.equal(swapped.input_rows_p, tiny_pairs.baseline_rows_p)
    assert torch.equal(swapped.baseline_columns_pt, tiny_pairs.input_columns_pt)
    assert not same(swapped, tiny_pairs)
    assert same(swapped.swap(), tiny_pairs)


def test_without_baseline_genes(tiny_pairs: BlendedBatch) -> None:
    empty = tiny_pairs.without_baseline_genes()
    assert equal(empty.input, tiny_pairs.input)
    assert torch.equal(empty.gene_ids_pt, tiny_pairs.gene_ids_pt)
    assert torch.equal(empty.baseline_rows_p, tiny_pairs.input_rows_p)
    is_gene_pt = tiny_pairs.gene_ids_pt >= 0
    baseline = empty.baseline
    assert not baseline.attention_mask_nt[is_gene_pt].any()
    assert (baseline.input_ids_nt[is_gene_pt] == PAD).all()
    assert (baseline.token_type_ids_nt[is_gene_pt] == 0).all()
    assert (baseline.gene_ids_nt == -1).all()
    for name in ("input_ids_nt", "token_type_ids_nt", "attention_mask_nt"):
        shown, own = getattr(baseline, name), getattr(tiny_pairs.input, name)
        assert torch.equal(shown[~is_gene_pt], own[~is_gene_pt])
    assert torch.equal(empty.baseline_columns_pt >= 0, baseline.attention_mask_nt)


def test_with_cells_shows_the_changed_tokens(
    tiny_pairs: BlendedBatch, tiny_tokenizer: Tokenizer
) -> None:
    vocabulary = tiny_tokenizer.vocabulary
    masked, _ = mask_category(tiny_pairs.cells, vocabulary, "disease")
    changed = tiny_pairs.with_cells(masked)
    assert same(changed, blend(masked, tiny_pairs.input_rows_p, tiny_pairs.baseline_rows_p))
    assert equal(changed.input, mask_category(tiny_pairs.input, vocabulary, "disease")[0])


def test_to_moves_everything(tiny_pairs: BlendedBatch) -> None:
    assert same(tiny_pairs.to("cpu", non_blocking=True), tiny_pairs)
    moved = tiny_pairs.to("meta")
    assert moved.gene_ids_pt.device.type == moved.input.input_ids_nt.device.type == "meta"


def test_what_cannot_be_blended() -> None:
    tokens = batch_of([{1: 20}, {2: 21}])
    with pytest.raises(PairError, match=r"one baseline.*\(2,\) and \(1,\)"):
        blend(tokens, torch.tensor([0, 1]), torch.tensor([1]))
    with pytest.raises(PairError, match="1 cells express no gene"):
        blend(batch_of([{1: 20}, {}]), torch.tensor([0]), torch.tensor([0]))
    short = build(
        [[CLS, 16, 20], [CLS, 10, 16, 20]], [[-1, -1, 1], [-1] * 3 + [1]], [[0] * 3, [0] * 4]
    )
    with pytest.raises(PairError, match="number of phenotype tokens"):
        blend(short, torch.tensor([0]), torch.tensor([1]))
    blended = blend(tokens, torch.tensor([0]), torch.tensor([1]))
    with pytest.raises(PairError, match="differ in shape"):
        replace(blended, gene_ids_pt=blended.gene_ids_pt[:, 1:])


def golden_tokens(
    golden: np.lib.npyio.NpzFile, key: str, members: tuple[str, ...], header: int
) -> TokenBatch:
    """Compact sequences of the golden file; tokens behind the header up to [EOS] are genes."""
    ids = [golden[f"{key}/{member}/input_ids"].tolist() for member in members]
    types = [golden[f"{key}/{member}/token_type_ids"].tolist() for member in members]
    genes = [
        [t - 6 if t >= 6 and place >= header else -1 for place, t in enumerate(row)]
        for row in types
    ]
    return build(ids, genes, types)


def check_golden(golden: np.lib.npyio.NpzFile, key: str, blended: BlendedBatch) -> None:
    for name, member in (("target", blended.input), ("baseline", blended.baseline)):
        for array in ("input_ids", "token_type_ids", "attention_mask"):
            np.testing.assert_array_equal(
                getattr(member, f"{array}_nt")[0].numpy(),
                golden[f"{key}/blended_{name}/{array}"],
                err_msg=f"{key} {name} {array}",
            )


@pytest.fixture(scope="module")
def golden(shared: Path) -> np.lib.npyio.NpzFile:
    return np.load(shared / "goldens" / "ggs_attribution.npz")


@pytest.mark.parametrize("pair", GOLDEN_PAIRS)
def test_released_blending(golden: np.lib.npyio.NpzFile, pair: str) -> None:
    key = f"all/{pair}/pair"
    tokens = golden_tokens(golden, key, ("target", "baseline"), header=6)
    check_golden(golden, key, blend(tokens, torch.tensor([0]), torch.tensor([1])))


@pytest.mark.parametrize("pair", GOLDEN_PAIRS)
def test_released_blending_of_a_category_subset(golden: np.lib.npyio.NpzFile, pair: str) -> None:
    """The released code counts 6 header tokens where there are 4: two genes count as header.

    With that mistake in the input we reproduce it; without it those genes are aligned by name.
    """
    key = f"subset/{pair}/pair"
    mistaken = golden_tokens(golden, key, ("target", "baseline"), header=6)
    check_golden(golden, key, blend(mistaken, torch.tensor([0]), torch.tensor([1])))
    tokens = golden_tokens(golden, key, ("target", "baseline"), header=4)
    blended = blend(tokens, torch.tensor([0]), torch.tensor([1]))
    assert blended.n_header == 4
    genes = blended.gene_ids_pt[0][blended.gene_ids_pt[0] >= 0].tolist()
    sets = [set(tokens.gene_ids_nt[row][tokens.gene_ids_nt[row] >= 0].tolist()) for row in (0, 1)]
    assert genes == [
        *sorted(sets[0] & sets[1]),
        *sorted(sets[0] - sets[1]),
        *sorted(sets[1] - sets[0]),
    ]


@pytest.mark.parametrize("run", ["all", "subset"])
@pytest.mark.parametrize("pair", GOLDEN_PAIRS)
def test_released_blank_baseline(golden: np.lib.npyio.NpzFile, run: str, pair: str) -> None:
    """The blank baseline is the target's own header and [EOS]; `subset` has the same mistake."""
    key = f"{run}/{pair}/blank"
    tokens = golden_tokens(golden, key, ("target",), header=6)
    rows = torch.tensor([0])
    check_golden(golden, key, blend(tokens, rows, rows).without_baseline_genes())
