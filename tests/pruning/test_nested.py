"""Cuts that share their work are predicted as they are one by one, by every kind of model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradgene.models import PhenotypeGeneTransformer
from gradgene.modes import replaced_forward
from gradgene.pruning import nested, predict
from gradgene.pruning.cutting import CellCuts, Cuts
from gradgene.pruning.nested import nested_groups, read_nested
from gradgene.pruning.predict import predict_cuts
from gradgene.tokens import MASK, TokenBatch, Tokenizer, mask_category
from tests.planted import VARIANTS, keep_genes, make_cells, make_model, make_tokenizer

CELLS = make_cells(6, 40)
TOKENIZER: Tokenizer = make_tokenizer(CELLS)
TOKENS: TokenBatch = TOKENIZER(CELLS)
N_GENES = 40
#: Places that are left: the whole, the best, the worst, one gene, none.
WINDOWS = [(0, 40), (0, 36), (0, 20), (0, 1), (0, 0), (4, 40), (20, 40), (39, 40), (40, 40)]


def cuts_of(rows: list[int], windows: list[tuple[int, int]] = WINDOWS) -> Cuts:
    """Every window of these cells by two orders, orders and cells interleaved."""
    entries = [(row, order, *window) for window in windows for row in rows for order in (1, 0)]
    return Cuts(*torch.tensor(entries).T.contiguous())


def cells(removal: str = "delete") -> CellCuts:
    rng = np.random.default_rng(0)
    place_og = np.stack([rng.permutation(N_GENES) for _ in range(2)]).astype(np.int32)
    return CellCuts(TOKENS, torch.from_numpy(place_og), removal, MASK)  # type: ignore[arg-type]


def one_by_one(model: PhenotypeGeneTransformer, of: CellCuts, cuts: Cuts) -> np.ndarray:
    """Each cut cell tokenised and predicted alone."""
    said = []
    for v in range(len(cuts)):
        row, order, low, high = (int(x[v]) for x in vars(cuts).values())
        place_g = of.place_og[order]
        one, keep_g = TOKENS.take(torch.tensor([row])), (place_g >= low) & (place_g < high)
        alone = keep_genes(one, keep_g)
        said.append(predict(model, alone, "disease", 10**6).probabilities_nc[0])
    return np.stack(said)


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_are_those_of_every_kind_of_model(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, cuts = make_model(TOKENIZER.vocabulary, **VARIANTS[name]), cuts_of([0, 3])
    monkeypatch.setattr(nested, "ROWS", 50)
    masked, _ = mask_category(TOKENS, TOKENIZER.vocabulary, "disease")
    of = CellCuts(masked, cells().place_og, "delete", MASK)
    groups = nested_groups(model, of, cuts)
    assert sorted(torch.cat(groups).tolist()) == list(range(len(cuts))) and len(groups) == 4
    for some in map(cuts.take, groups):
        with torch.inference_mode():
            logits_vv = read_nested(model, of, some, "disease")
            shown = of.show(some)
            expected_vv = model.read(model.embed(shown), shown.attention_mask_nt, "disease")
        torch.testing.assert_close(logits_vv, expected_vv, atol=1e-9, rtol=1e-9)
        assert float(expected_vv.std(dim=0).max()) > 1e-3


def test_predictions_come_back_in_the_order_of_the_cuts() -> None:
    model, of, cuts = make_model(TOKENIZER.vocabulary), cells(), cuts_of([0, 3])
    expected = one_by_one(model, of, cuts)
    np.testing.assert_allclose(predict_cuts(model, of, cuts, "disease", 100), expected, atol=1e-6)
    assert expected.std(axis=0).max() > 0.01


def test_another_category_than_the_classifiers_is_read_at_its_slot() -> None:
    model = make_model(TOKENIZER.vocabulary, classifier="sex")
    found = predict_cuts(model, cells(), cuts_of([1]), "disease", 100)
    np.testing.assert_allclose(found, one_by_one(model, cells(), cuts_of([1])), atol=1e-6)


def test_sums_that_lose_their_digits_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(TOKENIZER.vocabulary)
    with torch.no_grad():  # attention so sharp that the header is nothing beside some gene
        model.get_parameter("blocks.0.attention.q_lin.weight").mul_(10_000)
    of, cuts = cells(), cuts_of([0, 1])
    expected = one_by_one(model, of, cuts)
    np.testing.assert_allclose(predict_cuts(model, of, cuts, "disease", 100), expected, atol=1e-6)
    monkeypatch.setattr(nested, "LEAST_SUM", 0.0)
    wrong = predict_cuts(model, of, cuts, "disease", 100)
    assert not np.allclose(wrong, expected, atol=1e-6), "the test has no sharp attention"


def test_a_window_in_the_middle_is_read_as_it_is() -> None:
    model, windows = make_model(TOKENIZER.vocabulary), [(0, 40), (3, 9), (30, 40)]
    cuts = cuts_of([2], windows)
    assert len(nested_groups(model, cells(), cuts)) == 2
    found = predict_cuts(model, cells(), cuts, "disease", 100)
    np.testing.assert_allclose(found, one_by_one(model, cells(), cuts), atol=1e-6)


def test_what_shares_no_work_is_left_to_batches() -> None:
    model = make_model(TOKENIZER.vocabulary)
    cuts, few = cuts_of([0]), cuts_of([0], WINDOWS[:2])

    def any_(model: PhenotypeGeneTransformer, removal: str = "delete", cuts: Cuts = cuts) -> bool:
        return bool(nested_groups(model, cells(removal), cuts))

    assert any_(model)
    assert not any_(model, "mask") and not any_(model, cuts=few)
    assert not any_(make_model(TOKENIZER.vocabulary, n_layers=3))
    core = model.get_submodule("blocks.1.attention.core")
    with replaced_forward(core, core.forward):
        assert not any_(model)
    assert any_(model)
    assert not any_(model.to(torch.bfloat16))


def test_a_cell_that_is_too_long_is_left_to_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, cuts = make_model(TOKENIZER.vocabulary), cuts_of([0, 1])
    shorter, longer = sorted(TOKENS.n_tokens_n[:2].tolist())
    assert shorter < longer
    monkeypatch.setattr(nested, "MOST_PRODUCTS", 2 * shorter**2)
    assert len(nested_groups(model, cells(), cuts)) == 2
    found = predict_cuts(model, cells(), cuts, "disease", 100)
    np.testing.assert_allclose(found, one_by_one(model, cells(), cuts), atol=1e-6)
