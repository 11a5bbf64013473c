"""Masking hides what the published models were trained with, at the published rates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gradgene.errors import ConfigError
from gradgene.tokens import EOS, MASK, PAD, TokenBatch, Tokenizer
from gradgene.tokens.masking import IGNORED, MaskedTokens, cell_seeds, mask_tokens, uniform
from tests.planted import make_cells, make_tokenizer

NEVER = MaskedTokens(gene_rate=0.0, phenotype_rate=1.0, dropped_rate=0.0, absent_rate=0.0)
ALL = MaskedTokens(gene_rate=1.0, phenotype_rate=1.0, dropped_rate=0.0, absent_rate=0.0)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer(make_cells(40, 200))


@pytest.fixture(scope="module")
def tokens(tokenizer: Tokenizer) -> TokenBatch:
    """2,000 cells of 200 genes, about half of which each expresses."""
    return tokenizer(make_cells(2000, 200, seed=1))


def seeds(tokens: TokenBatch, *words: int) -> Tensor:
    return cell_seeds(np.arange(len(tokens)), *words)


def slots(tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.vocabulary.slot(c) for c in tokenizer.vocabulary.phenotypes]


def close(found: Tensor, p: float, n: int) -> bool:
    """A share of n draws lies within five standard errors of its probability."""
    return abs(float(found) - p) < 5 * (p * (1 - p) / n) ** 0.5


def test_rates(tokens: TokenBatch, tokenizer: Tokenizer) -> None:
    masked, labels_nt = mask_tokens(tokens, tokenizer.vocabulary, MaskedTokens(), seeds(tokens))
    is_gene_nt = tokens.gene_ids_nt >= 0
    n_genes = int(is_gene_nt.sum())
    hidden_nt = masked.input_ids_nt == MASK
    assert close(hidden_nt[is_gene_nt].float().mean(), 0.15, n_genes)
    at = slots(tokenizer)
    n_labels = len(tokens) * len(at)
    assert close((labels_nt[:, at] != IGNORED).float().mean(), 0.5 * 0.9, n_labels)
    assert close((masked.input_ids_nt[:, at] == PAD).float().mean(), 0.5 * 0.1, n_labels)


def test_labels_are_what_was_hidden_and_the_rest_is_untouched(
    tokens: TokenBatch, tokenizer: Tokenizer
) -> None:
    plain = replace(MaskedTokens(), absent_rate=0.0)
    masked, labels_nt = mask_tokens(tokens, tokenizer.vocabulary, plain, seeds(tokens))
    asked_nt, dropped_nt = (
        labels_nt != IGNORED,
        (masked.input_ids_nt == PAD) & (tokens.input_ids_nt != PAD),
    )
    assert torch.equal(labels_nt[asked_nt], tokens.input_ids_nt[asked_nt])
    assert (masked.input_ids_nt[asked_nt] == MASK).all()
    same_nt = ~asked_nt & ~dropped_nt
    assert torch.equal(masked.input_ids_nt[same_nt], tokens.input_ids_nt[same_nt])
    assert torch.equal(masked.token_type_ids_nt[~dropped_nt], tokens.token_type_ids_nt[~dropped_nt])
    assert torch.equal(masked.gene_ids_nt, tokens.gene_ids_nt)
    assert torch.equal(masked.attention_mask_nt, tokens.attention_mask_nt)
    assert int(dropped_nt.sum()) > 0


def test_specials_and_padding_are_never_masked(tokens: TokenBatch, tokenizer: Tokenizer) -> None:
    masked, labels_nt = mask_tokens(tokens, tokenizer.vocabulary, ALL, seeds(tokens))
    special_nt = tokens.gene_ids_nt < 0
    special_nt[:, slots(tokenizer)] = False
    assert torch.equal(masked.input_ids_nt[special_nt], tokens.input_ids_nt[special_nt])
    assert (labels_nt[special_nt] == IGNORED).all()
    assert (masked.input_ids_nt == EOS).sum() == len(tokens)
    assert (masked.input_ids_nt[~special_nt] == MASK).all()


def test_a_dropped_phenotype_has_no_type_and_is_still_attended_to(
    tokens: TokenBatch, tokenizer: Tokenizer
) -> None:
    all_dropped = MaskedTokens(gene_rate=0.0, phenotype_rate=1.0, dropped_rate=1.0)
    masked, labels_nt = mask_tokens(tokens, tokenizer.vocabulary, all_dropped, seeds(tokens))
    at = slots(tokenizer)
    assert (masked.input_ids_nt[:, at] == PAD).all()
    assert (masked.token_type_ids_nt[:, at] == 0).all()
    assert masked.attention_mask_nt[:, at].all()
    assert (labels_nt == IGNORED).all()


def test_a_missing_label_is_never_asked_for(tokenizer: Tokenizer) -> None:
    cells = make_cells(50, 200, seed=2)
    obs = cells.obs.copy()
    obs.loc[obs.index[::2], "sex"] = np.nan
    tokens = tokenizer(replace(cells, obs=obs))
    masked, labels_nt = mask_tokens(tokens, tokenizer.vocabulary, NEVER, seeds(tokens))
    slot = tokenizer.vocabulary.slot("sex")
    assert (labels_nt[::2, slot] == IGNORED).all() and (labels_nt[1::2, slot] != IGNORED).all()
    assert (masked.input_ids_nt[:, slot] == MASK).all()


def test_the_token_of_an_unknown_label_is_never_asked_for(tokenizer: Tokenizer) -> None:
    """Published vocabularies have one: `[unknown_sex]` says that nothing is known."""
    cells = make_cells(50, 200, seed=2)
    obs = cells.obs.copy()
    obs.loc[obs.index[::2], "sex"] = np.nan
    known = tokenizer.vocabulary
    published = replace(
        known,
        layout=replace(known.layout, text="ascii_by_category"),
        categories={**known.categories, "sex": ("[female]", "[male]", "[unknown_sex]")},
    )
    tokens = replace(tokenizer, vocabulary=published)(replace(cells, obs=obs))
    slot = published.slot("sex")
    unknown = published.label_id("sex", "[unknown_sex]")
    assert (tokens.input_ids_nt[::2, slot] == unknown).all()
    masked, labels_nt = mask_tokens(tokens, published, NEVER, seeds(tokens))
    assert (labels_nt != unknown).all()
    assert (labels_nt[::2, slot] == IGNORED).all() and (labels_nt[1::2, slot] != IGNORED).all()
    assert (masked.input_ids_nt[::2, slot] == unknown).all()


def test_absent_genes_are_absent_distinct_and_bin_0(
    tokens: TokenBatch, tokenizer: Tokenizer
) -> None:
    vocabulary = tokenizer.vocabulary
    masked, labels_nt = mask_tokens(tokens, vocabulary, MaskedTokens(), seeds(tokens))
    swapped_nt = labels_nt == vocabulary.bin_offset
    assert (masked.input_ids_nt[swapped_nt] == MASK).all()
    assert torch.equal(swapped_nt, masked.gene_ids_nt != tokens.gene_ids_nt)
    types_nt = vocabulary.gene_offset + masked.gene_ids_nt
    assert torch.equal(masked.token_type_ids_nt[swapped_nt], types_nt[swapped_nt])
    for before, after, swapped in zip(
        tokens.gene_ids_nt, masked.gene_ids_nt, swapped_nt, strict=True
    ):
        assert not set(after[swapped].tolist()) & set(before.tolist())
        held = after[after >= 0].tolist()
        assert len(held) == len(set(held))
    # Five bins: one in six masked genes, in nine of ten cells.
    asked_nt = (labels_nt != IGNORED) & (tokens.gene_ids_nt >= 0)
    n = int(asked_nt.sum())
    assert abs(int(swapped_nt.sum()) / n - 1 / 6) < 0.01
    spared_n = (~swapped_nt.any(dim=1)) & (asked_nt.sum(dim=1) > 12)
    assert 0.08 < float(spared_n.sum() / (asked_nt.sum(dim=1) > 12).sum()) < 0.25


def test_absent_genes_are_drawn_uniformly(tokenizer: Tokenizer) -> None:
    """The same cell many times: each gene it lacks is as likely as another."""
    one = tokenizer(make_cells(1, 200, seed=3))
    tokens = one.take(torch.zeros(20_000, dtype=torch.long))
    rare = MaskedTokens(gene_rate=0.05, phenotype_rate=0.0, absent_rate=1.0)
    masked, labels_nt = mask_tokens(tokens, tokenizer.vocabulary, rare, seeds(tokens))
    drawn = masked.gene_ids_nt[labels_nt == tokenizer.vocabulary.bin_offset]
    present = set(one.gene_ids_nt[0].tolist())
    absent = [g for g in range(200) if g not in present]
    counts = torch.bincount(drawn, minlength=200)[absent].double()
    expected = counts.sum() / len(absent)
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert counts.sum() == len(drawn) > 100 * len(absent)
    assert chi2 < len(absent) + 5 * (2 * len(absent)) ** 0.5


def test_a_cell_that_expresses_every_gene_swaps_none(tokenizer: Tokenizer) -> None:
    cells = make_cells(5, 200, seed=4)
    full = replace(cells, matrix_ng=cells.matrix_ng + cells.matrix_ng.__class__(np.ones((5, 200))))
    tokens = tokenizer(full)
    assert int((tokens.gene_ids_nt >= 0).sum()) == 1000
    masked, labels_nt = mask_tokens(tokens, tokenizer.vocabulary, MaskedTokens(), seeds(tokens))
    assert torch.equal(masked.gene_ids_nt, tokens.gene_ids_nt)
    assert (labels_nt != tokenizer.vocabulary.bin_offset).all()


@given(st.permutations(range(12)), st.integers(1, 11))
def test_what_is_hidden_does_not_depend_on_the_batch(order: list[int], cut: int) -> None:
    """Cells in any order, in two batches of other lengths: every cell is masked as before."""
    tokenizer = make_tokenizer(make_cells(40, 60))
    tokens, rows = tokenizer(make_cells(12, 60, seed=5)), torch.tensor(order)
    vocabulary, masking, seeds_n = tokenizer.vocabulary, MaskedTokens(), seeds(tokens, 7)
    masked, labels_nt = mask_tokens(tokens, vocabulary, masking, seeds_n)
    for part in (rows[:cut], rows[cut:]):
        batch, asked_nt = mask_tokens(tokens.take(part), vocabulary, masking, seeds_n[part])
        length = asked_nt.shape[1]
        assert torch.equal(asked_nt, labels_nt[part, :length])
        for name, tensor in batch.tensors().items():
            assert torch.equal(tensor, masked.tensors()[name][part, :length]), name


def test_a_batch_without_cells(tokenizer: Tokenizer) -> None:
    none = np.zeros(0, dtype=int)
    tokens = tokenizer(make_cells(5, 200).take(none))
    masked, labels_nt = mask_tokens(tokens, tokenizer.vocabulary, MaskedTokens(), seeds(tokens))
    assert len(masked) == len(labels_nt) == 0


def test_other_seeds_hide_other_tokens(tokens: TokenBatch, tokenizer: Tokenizer) -> None:
    first, second, again = (
        mask_tokens(tokens, tokenizer.vocabulary, MaskedTokens(), seeds(tokens, *words))[1]
        for words in ((0, 1), (0, 2), (0, 1))
    )
    assert torch.equal(first, again)
    both = ((first != IGNORED) & (second != IGNORED) & (tokens.gene_ids_nt >= 0)).sum()
    assert close(
        both / (tokens.gene_ids_nt >= 0).sum(), 0.15**2, int((tokens.gene_ids_nt >= 0).sum())
    )


def test_splitmix64_is_the_published_one() -> None:
    """First outputs of Java's SplittableRandom-style generator for seed 0, from its definition."""

    def reference(seed: int, n: int) -> list[float]:
        out, state = [], seed
        for _ in range(n):
            state = (state + 0x9E3779B97F4A7C15) % 2**64
            z = state
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
            out.append(((z ^ (z >> 31)) >> 40) / 2**24)
        return out

    found = uniform(torch.tensor([0, 123456789]), 50, 0)
    assert found.tolist() == [reference(0, 50), reference(123456789, 50)]


def test_numbers_are_uniform_and_independent() -> None:
    u = uniform(cell_seeds(np.arange(400), 3), 1000, 0)
    assert float(u.min()) >= 0 and float(u.max()) < 1
    assert abs(float(u.mean()) - 0.5) < 5 / (12 * u.numel()) ** 0.5
    assert abs(float(u.var()) * 12 - 1) < 0.01
    other = uniform(cell_seeds(np.arange(400), 3), 1000, 1)
    for a, b in ((u, other), (u[1:], u[:-1]), (u[:, 1:], u[:, :-1])):
        r = torch.corrcoef(torch.stack([a.reshape(-1), b.reshape(-1)]))[0, 1]
        assert abs(float(r)) < 5 / a.numel() ** 0.5


def test_loss_by_hand(tokenizer: Tokenizer) -> None:
    """A label and a bin; the label weighs three times as much."""
    vocabulary = tokenizer.vocabulary
    logits_mv = torch.randn(2, vocabulary.n_values, generator=torch.Generator().manual_seed(0))
    labels_m = torch.tensor([vocabulary.label_id("sex", "male"), vocabulary.n_values - 1])
    log_p = logits_mv.log_softmax(dim=1)
    by_hand = [
        -0.5 * log_p[i, label] - 0.5 * log_p[i].mean() for i, label in enumerate(labels_m.tolist())
    ]
    found, weight = MaskedTokens(phenotype_weight=3.0).loss(logits_mv, labels_m, vocabulary)
    torch.testing.assert_close(found, 3 * by_hand[0] + by_hand[1])
    assert float(weight) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"gene_rate": 1.5},
        {"label_smoothing": -0.1},
        {"gene_rate": 0.0, "phenotype_rate": 0.0},
        {"phenotype_weight": -1.0},
    ],
)
def test_rates_that_are_none(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="objective"):
        MaskedTokens(**wrong)
