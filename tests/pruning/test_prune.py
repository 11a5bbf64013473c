"""Cutting the gene a model reads kills its accuracy; cutting the others does not."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse, stats

from gradgene.cells import Cells, log_normalise
from gradgene.errors import ConfigError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pruning import (
    GeneRanking,
    Judged,
    PruningCurve,
    PruningSettings,
    arm_metrics,
    predict,
    prune,
)
from gradgene.tokens import MASK, TokenBatch, Tokenizer
from tests.pruning.toys import (
    GENES,
    judge,
    one_gene_reader,
    ranking,
    telling_cells,
    telling_tokenizer,
)

# The door exports a function of the same name, so that only importlib reaches the module.
MODULE = importlib.import_module("gradgene.pruning.prune")


def pruned(settings: PruningSettings, *rankings: GeneRanking, donors: bool = True) -> PruningCurve:
    """Prune a model that reads g0 alone, on cells in which g0 says everything."""
    cells = telling_cells()
    tokenizer = telling_tokenizer(cells)
    return prune(
        one_gene_reader(tokenizer.vocabulary), judge(cells, tokenizer, donors), rankings, settings
    )


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[TokenBatch]:
    """The tokens of every call of `predict`."""
    calls: list[TokenBatch] = []

    def counting(model: Any, tokens: TokenBatch, *more: Any) -> Any:
        calls.append(tokens)
        return predict(model, tokens, *more)

    monkeypatch.setattr(MODULE, "predict", counting)
    return calls


def test_only_cells_of_the_contrast_are_judged() -> None:
    cells = telling_cells()
    labels = np.resize(["case", "control"], 24).astype(object)
    labels[:6] = "other"
    cells = replace(cells, obs=cells.obs.assign(disease=labels))
    tokenizer = telling_tokenizer(cells)
    assert tokenizer.vocabulary.categories["disease"] == ("case", "control", "other")
    judged = Judged.of(cells, tokenizer, "disease", "case", "control", seed=5)
    assert judged.truth_n.tolist() == [0, 1] * 9
    assert judged.donors_n is not None
    assert judged.donors_n.tolist() == ["d0"] * 2 + ["d1"] * 8 + ["d2"] * 8
    expected = tokenizer.encode(cells.take(np.arange(6, 24)))
    torch.testing.assert_close(judged.tokens.input_ids_nt, expected.input_ids_nt)
    torch.testing.assert_close(judged.tokens.gene_ids_nt, expected.gene_ids_nt)
    assert (judged.target, judged.input, judged.baseline, judged.seed) == (
        *("disease", "case", "control"),
        5,
    )


@pytest.mark.parametrize("removal", ["delete", "mask"])
def test_the_planted_gene_decides(removal: Any) -> None:
    curve = pruned(PruningSettings((0.0, 0.1, 0.9), removal=removal), ranking("g0"))
    at = {
        (order, ratio): curve.value("deeplift/forward", order, ratio)
        for order in ("lowest_first", "highest_first")
        for ratio in (0.0, 0.1, 0.9)
    }
    assert at["lowest_first", 0.0] == at["highest_first", 0.0] == 1.0
    assert at["lowest_first", 0.1] == at["lowest_first", 0.9] == 1.0  # g0 alone is enough
    assert at["highest_first", 0.1] == at["highest_first", 0.9] == 0.5  # all say control
    frame = curve.frame.query("metric == 'accuracy' and order == 'highest_first' and ratio == 0.1")
    assert frame.set_index("arm")["value"].to_dict() == {"input": 0, "baseline": 1, "both": 0.5}


def test_a_useless_ranking_loses_it_early() -> None:
    curve = pruned(PruningSettings((0.0, 0.5), "lowest_first"), ranking(*reversed(GENES)))
    assert curve.value("deeplift/forward", "lowest_first", 0.5) == 0.5
    assert set(curve.frame["order"]) == {"lowest_first"}


def test_the_whole_panel_is_predicted_once(seen: list[TokenBatch]) -> None:
    rankings = [ranking("g0"), ranking("g5", name="hvg"), ranking("g7", name="random", draw=1)]
    curve = pruned(PruningSettings((0.0, 0.5)), *rankings)
    frame = curve.frame[curve.frame["ratio"] == 0]
    values = frame.pivot_table("value", ["arm", "metric"], ["ranking", "order"])
    assert values.shape[1] == 6 and (values.nunique(axis=1) == 1).all()
    # One call for the whole panel and at most one for each order of each ranking.
    assert sum(int((t.gene_ids_nt >= 0).sum()) == _n_gene_tokens() for t in seen) == 1
    kept = {r.kept(0.5, order).tobytes() for r in rankings for order in MODULE.ORDERS}
    assert len(seen) == 1 + len(kept)


def _n_gene_tokens() -> int:
    return int((telling_cells().matrix_ng.toarray() >= 0.1).sum())


def test_equal_sets_are_predicted_once(seen: list[TokenBatch]) -> None:
    # The two rankings differ only within the half that is kept.
    curve = pruned(
        PruningSettings((0.5,), "lowest_first"),
        ranking("g0", "g1", "g2", "g3", "g4"),
        ranking("g4", "g3", "g2", "g1", "g0", name="deg"),
    )
    assert len(seen) == 1
    one, other = (f["value"].to_numpy() for _, f in curve.frame.groupby("ranking"))
    np.testing.assert_array_equal(one, other)


def test_columns_of_a_point() -> None:
    curve = pruned(PruningSettings((0.5,), "lowest_first"), ranking("g0", name="random", draw=7))
    assert (
        list(curve.frame.columns)
        == (
            "ranking draw order ratio arm metric value ci_low ci_high n_cells n_donors rank_source "
            "split seed"
        ).split()
    )
    row = curve.frame.iloc[0]
    assert (row["ranking"], row["draw"], row["order"]) == ("random", 7, "lowest_first")
    assert (row["rank_source"], row["split"], row["seed"]) == ("held_out", "test", 5)
    n_cells = curve.frame.groupby("arm")["n_cells"].unique().map(list).to_dict()
    assert n_cells == {"input": [12], "baseline": [12], "both": [24]}


def without(cells: Cells, keep_g: np.ndarray) -> Cells:
    """Cells whose other genes were never measured."""
    matrix = cells.matrix_ng.toarray() * keep_g
    return replace(cells, matrix_ng=sparse.csr_matrix(matrix.astype(np.float32)))


@pytest.mark.parametrize("order", ["lowest_first", "highest_first"])
def test_deletion_is_never_having_measured(
    tiny_cells: Cells, tiny_tokenizer: Tokenizer, tiny_model: PhenotypeGeneTransformer, order: Any
) -> None:
    cells = log_normalise(tiny_cells)
    scores = np.random.default_rng(0).normal(size=len(cells.genes))
    chosen = GeneRanking("any", cells.genes, scores)
    judged = judge(cells, tiny_tokenizer)
    curve = prune(tiny_model, judged, [chosen], PruningSettings((0.6,), order, batch_tokens=300))
    keep_g = np.zeros(len(cells.genes), dtype=bool)
    by_score = np.argsort(-scores)
    keep_g[by_score[:20] if order == "lowest_first" else by_score[-20:]] = True
    rebuilt = tiny_tokenizer.encode(without(cells, keep_g))
    found = predict(tiny_model, rebuilt, "disease", 10**6)
    expected = arm_metrics(found, judged.truth_n, "case", "control")
    measured = curve.frame.set_index(["arm", "metric"])["value"].to_dict()
    assert measured.keys() == expected.keys()
    for key, value in expected.items():
        assert measured[key] == pytest.approx(value, abs=1e-5), key


def test_masking_keeps_lengths(seen: list[TokenBatch]) -> None:
    pruned(PruningSettings((0.0, 0.5), "lowest_first", removal="mask"), ranking("g0"))
    whole, hidden = seen
    torch.testing.assert_close(hidden.n_tokens_n, whole.n_tokens_n)
    torch.testing.assert_close(hidden.token_type_ids_nt, whole.token_type_ids_nt)
    gone = torch.isin(whole.gene_ids_nt, torch.arange(5, 10))
    assert bool(gone.any())
    assert bool((hidden.input_ids_nt[gone] == MASK).all())
    torch.testing.assert_close(hidden.input_ids_nt[~gone], whole.input_ids_nt[~gone])


def test_deletion_shortens(seen: list[TokenBatch]) -> None:
    pruned(PruningSettings((0.0, 0.5), "lowest_first"), ranking("g0"))
    whole, cut = seen
    n_gone = torch.isin(whole.gene_ids_nt, torch.arange(5, 10)).sum(dim=1)
    torch.testing.assert_close(cut.n_tokens_n, whole.n_tokens_n - n_gone)


def one_donor_at_a_time(model: PhenotypeGeneTransformer, judged: Judged) -> pd.DataFrame:
    """(arm, metric) x donor: what each donor's cells alone would give."""
    assert judged.donors_n is not None
    columns = {}
    for donor in np.unique(judged.donors_n):
        rows = np.flatnonzero(judged.donors_n == donor)
        found = predict(model, judged.tokens.take(torch.from_numpy(rows)), "disease", 10**6)
        columns[donor] = arm_metrics(found, judged.truth_n[rows], "case", "control")
    return pd.DataFrame(columns)


def test_intervals_are_over_donors(
    tiny_cells: Cells, tiny_tokenizer: Tokenizer, tiny_model: PhenotypeGeneTransformer
) -> None:
    judged = judge(log_normalise(tiny_cells), tiny_tokenizer)
    whole = GeneRanking("any", tiny_cells.genes, np.zeros(len(tiny_cells.genes)))
    settings = PruningSettings((0.0,), "lowest_first")
    frame = prune(tiny_model, judged, [whole], settings).frame.set_index(["arm", "metric"])
    by_donor = one_donor_at_a_time(tiny_model, judged).reindex(frame.index)
    half = stats.t.ppf(0.975, 3) * by_donor.std(axis=1, ddof=1) / 2
    assert (half > 0).any() and (frame["n_donors"] == 4).all()
    np.testing.assert_allclose(frame["ci_low"], by_donor.mean(axis=1) - half, atol=1e-5)
    np.testing.assert_allclose(frame["ci_high"], by_donor.mean(axis=1) + half, atol=1e-5)


@pytest.mark.parametrize(("n_donors", "known"), [(2, False), (3, True)])
def test_intervals_need_three_donors(n_donors: int, known: bool) -> None:
    cells = telling_cells(n_donors=n_donors)
    tokenizer = telling_tokenizer(cells)
    model = one_gene_reader(tokenizer.vocabulary)
    frame = prune(model, judge(cells, tokenizer), [ranking("g0")], PruningSettings((0.5,))).frame
    assert (frame["n_donors"] == n_donors).all()
    assert frame[["ci_low", "ci_high"]].notna().all(axis=None) == known
    assert frame[["ci_low", "ci_high"]].isna().all(axis=None) != known


def test_without_donors_there_are_no_intervals() -> None:
    frame = pruned(PruningSettings((0.5,)), ranking("g0"), donors=False).frame
    assert frame[["ci_low", "ci_high", "n_donors"]].isna().all(axis=None)
    assert frame["value"].notna().all()


def test_a_donor_of_one_arm_counts_where_it_can() -> None:
    cells = telling_cells(n=24, n_donors=4)
    keep = ~((cells.obs["donor"] == "d3") & (cells.obs["disease"] == "control")).to_numpy()
    cells = cells.take(np.flatnonzero(keep))
    tokenizer = telling_tokenizer(cells)
    model = one_gene_reader(tokenizer.vocabulary)
    curve = prune(model, judge(cells, tokenizer), [ranking("g0")], PruningSettings((0.5,)))
    n = curve.frame.drop_duplicates(["arm", "metric"]).set_index(["arm", "metric"])["n_donors"]
    assert (n["input", "accuracy"], n["baseline", "accuracy"]) == (4, 3)
    assert (n["both", "accuracy"], n["both", "balanced_accuracy"]) == (4, 3)


def test_progress_wraps_the_rankings() -> None:
    cells = telling_cells()
    tokenizer = telling_tokenizer(cells)
    tracked: list[str] = []

    def track(rankings: Any) -> Any:
        for one in rankings:
            tracked.append(one.name)
            yield one

    prune(
        one_gene_reader(tokenizer.vocabulary),
        judge(cells, tokenizer),
        [ranking("g0"), ranking("g1", name="hvg")],
        PruningSettings((0.5,)),
        track,
    )
    assert tracked == ["deeplift/forward", "hvg"]


def test_no_ranking_gives_an_empty_curve() -> None:
    curve = pruned(PruningSettings((0.5,)))
    assert curve.frame.empty and curve.summary().empty


def test_grids() -> None:
    assert PruningSettings((0.5, 0.0, 0.5)).grid == {
        "lowest_first": (0.0, 0.5),
        "highest_first": (0.0, 0.5),
    }
    by_order: Any = {"lowest_first": [0.9, 0.5], "highest_first": (0.02,)}
    assert PruningSettings(by_order).grid == {
        "lowest_first": (0.5, 0.9),
        "highest_first": (0.02,),
    }
    assert PruningSettings(by_order, "highest_first").grid == {"highest_first": (0.02,)}
    assert PruningSettings((0.5,), "lowest_first").grid == {"lowest_first": (0.5,)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ratios": (0.0, 1.0)}, r"pruning.ratios.*\[0, 1\).*1.0"),
        ({"ratios": (-0.1,)}, r"pruning.ratios.*-0.1"),
        ({"ratios": (float("nan"),)}, r"pruning.ratios.*nan"),
        ({"ratios": ()}, r"pruning.ratios"),
        ({"ratios": {"lowest_first": (0.5,), "best_first": (0.5,)}}, r"pruning.ratios.*best_first"),
        ({"ratios": {"lowest_first": (0.5, 1.5)}}, r"pruning.ratios.*lowest_first.*1.5"),
        ({"ratios": {"lowest_first": (0.5,)}, "order": "highest_first"}, r"no shares.*highest"),
        ({"ratios": {}}, r"pruning.ratios"),
        ({"ratios": (0.5,), "order": "lowest"}, r"pruning.order.*'lowest'.*'lowest_first'"),
        ({"ratios": (0.5,), "removal": "hide"}, r"pruning.removal.*'hide'.*'delete'"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PruningSettings(**settings)
