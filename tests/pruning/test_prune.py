"""Cutting the gene a model reads kills its accuracy; cutting the others does not."""

from __future__ import annotations

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
from gradgene.pruning.settings import ORDERS
from gradgene.tokens import TokenBatch, Tokenizer
from tests.pruning.toys import (
    GENES,
    OneGeneReader,
    judge,
    one_gene_reader,
    ranking,
    telling_cells,
    telling_tokenizer,
)


def pruned(settings: PruningSettings, *rankings: GeneRanking, donors: bool = True) -> PruningCurve:
    """Prune a model that reads g0 alone, on cells in which g0 says everything."""
    cells = telling_cells()
    tokenizer = telling_tokenizer(cells)
    return prune(
        one_gene_reader(tokenizer.vocabulary), judge(cells, tokenizer, donors), rankings, settings
    )


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[TokenBatch]:
    """The tokens of every forward pass."""
    calls: list[TokenBatch] = []
    embed = OneGeneReader.embed

    def counting(self: OneGeneReader, tokens: TokenBatch) -> Any:
        calls.append(tokens)
        return embed(self, tokens)

    monkeypatch.setattr(OneGeneReader, "embed", counting)
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


def test_equal_cuts_of_a_cell_are_predicted_once(seen: list[TokenBatch]) -> None:
    rankings = [ranking("g0"), ranking("g5", name="hvg"), ranking("g7", name="random", draw=1)]
    curve = pruned(PruningSettings((0.0, 0.5)), *rankings)
    frame = curve.frame[curve.frame["ratio"] == 0]
    values = frame.pivot_table("value", ["arm", "metric"], ["ranking", "order"])
    assert values.shape[1] == 6 and (values.nunique(axis=1) == 1).all()
    # Every cell in every distinct state, whichever ranking, order or share left it so.
    present_ng = telling_cells().matrix_ng.toarray() >= 0.1
    left = {
        (cell, *np.flatnonzero(r.kept(ratio, order) & present_ng[cell]))
        for r in rankings
        for order in ORDERS
        for ratio in (0.0, 0.5)
        for cell in range(len(present_ng))
    }
    assert sum(map(len, seen)) == len(left) < 6 * 2 * len(present_ng)


def test_cuts_of_all_rankings_share_batches(seen: list[TokenBatch]) -> None:
    rankings = [ranking("g0"), ranking("g5", name="hvg"), ranking("g7", name="random", draw=1)]
    pruned(PruningSettings((0.0, 0.2, 0.5, 0.8), batch_tokens=10**6), *rankings)
    assert len(seen) == 1
    pruned(PruningSettings((0.0, 0.2, 0.5, 0.8), batch_tokens=60), *rankings)
    some = seen[1:]
    # Longest first, and of similar length: next to no padding.
    lengths = [batch.input_ids_nt.shape[1] for batch in some]
    assert lengths == sorted(lengths, reverse=True) and len(some) > 10
    positions = sum(batch.input_ids_nt.numel() for batch in some)
    tokens = sum(int(batch.n_tokens_n.sum()) for batch in some)
    assert all(batch.input_ids_nt.numel() <= 60 for batch in some)
    assert positions <= 1.05 * tokens


def test_equal_sets_of_two_rankings_give_equal_points(seen: list[TokenBatch]) -> None:
    # The two rankings differ only within the half that is kept.
    curve = pruned(
        PruningSettings((0.5,), "lowest_first"),
        ranking("g0", "g1", "g2", "g3", "g4"),
        ranking("g4", "g3", "g2", "g1", "g0", name="deg"),
    )
    assert sum(map(len, seen)) <= 2 * 24  # whole cells and half cells
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
    whole = predict(tiny_model, judged.tokens, "disease", 10**6).probabilities_nc
    whole_n = whole[np.arange(len(whole)), judged.truth_n]
    expected = arm_metrics(found, judged.truth_n, "case", "control", whole_n)
    measured = curve.frame.set_index(["arm", "metric"])["value"].to_dict()
    assert measured.keys() == expected.keys()
    for key, value in expected.items():
        assert measured[key] == pytest.approx(value, abs=1e-5), key


def test_the_drop_is_measured_from_the_whole_panel() -> None:
    # Without a ratio 0 in the grid; the reader gives its label 1 / (1 + e^-4).
    curve = pruned(PruningSettings((0.5,), "highest_first"), ranking("g0"))
    at = curve.frame.query("metric == 'probability_drop'").set_index("arm")["value"]
    sure = 1 / (1 + np.exp(-4))
    assert at.to_dict() == pytest.approx(
        {"input": 2 * sure - 1, "baseline": 0, "both": sure - 0.5}, abs=1e-6
    )


class Pieces(dict[str, np.ndarray]):
    """A `Progress` in memory that breaks off after writing some pieces."""

    def __init__(self, n: float = float("inf")) -> None:
        self.n = n

    def read(self, name: str) -> np.ndarray | None:
        return self.get(name)

    def write(self, name: str, piece: np.ndarray) -> None:
        self[name] = piece
        if len(self) >= self.n:
            raise KeyboardInterrupt

    def shared(self, name: str) -> np.ndarray | None:
        return self.get(name)

    def share(self, name: str, part: np.ndarray) -> None:
        self[name] = part


def test_an_interrupted_pruning_goes_on_where_it_was(seen: list[TokenBatch]) -> None:
    cells = telling_cells()
    tokenizer = telling_tokenizer(cells)
    model, judged = one_gene_reader(tokenizer.vocabulary), judge(cells, tokenizer)
    rankings = [ranking("g0"), ranking("g5", name="hvg")]
    settings = PruningSettings((0.0, 0.2, 0.5, 0.8), batch_tokens=10)
    expected, n_batches = prune(model, judged, rankings, settings), len(seen)
    pieces = Pieces(2)
    with pytest.raises(KeyboardInterrupt):
        prune(model, judged, rankings, settings, progress=pieces)
    assert len(pieces) == 2
    pieces.n = float("inf")
    done = len(seen) - n_batches
    again = prune(model, judged, rankings, settings, progress=pieces)
    assert 0 < done < n_batches and len(seen) == 2 * n_batches
    pd.testing.assert_frame_equal(again.frame, expected.frame, check_exact=True)
    assert again.by_donor is not None and expected.by_donor is not None
    pd.testing.assert_frame_equal(again.by_donor, expected.by_donor, check_exact=True)
    # A control comes first, and so is the same part of a pruning without the other ranking.
    alone = prune(model, judged, rankings[1:], settings, progress=pieces)
    assert len(seen) == 2 * n_batches
    of_control = expected.frame[expected.frame["ranking"] == "hvg"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.frame, of_control, check_exact=True)
    # Another one is another part.
    prune(model, judged, [ranking("g3", name="hvg")], settings, progress=pieces)
    assert len(seen) > 2 * n_batches


def one_donor_at_a_time(model: PhenotypeGeneTransformer, judged: Judged) -> pd.DataFrame:
    """(arm, metric) x donor: what each donor's cells alone would give."""
    assert judged.donors_n is not None
    columns = {}
    for donor in np.unique(judged.donors_n):
        rows = np.flatnonzero(judged.donors_n == donor)
        found = predict(model, judged.tokens.take(torch.from_numpy(rows)), "disease", 10**6)
        truth_n = judged.truth_n[rows]
        true_n = found.probabilities_nc[np.arange(len(rows)), truth_n]
        columns[donor] = arm_metrics(found, truth_n, "case", "control", true_n)
    return pd.DataFrame(columns)


def test_intervals_are_over_donors(
    tiny_cells: Cells, tiny_tokenizer: Tokenizer, tiny_model: PhenotypeGeneTransformer
) -> None:
    judged = judge(log_normalise(tiny_cells), tiny_tokenizer)
    whole = GeneRanking("any", tiny_cells.genes, np.zeros(len(tiny_cells.genes)))
    settings = PruningSettings((0.0,), "lowest_first")
    curve = prune(tiny_model, judged, [whole], settings)
    frame, of_whole = curve.frame.set_index(["arm", "metric"]), curve.by_donor
    assert of_whole is not None
    by_donor = one_donor_at_a_time(tiny_model, judged).reindex(frame.index)
    half = stats.t.ppf(0.975, 3) * by_donor.std(axis=1, ddof=1) / 2
    assert (half > 0).any() and (frame["n_donors"] == 4).all()
    wide = of_whole.pivot_table("value", ["arm", "metric"], "donor").reindex(frame.index)
    np.testing.assert_allclose(wide, by_donor, atol=1e-5)
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


def test_progress_wraps_the_pieces_of_work() -> None:
    cells = telling_cells()
    tokenizer = telling_tokenizer(cells)
    tracked: list[int] = []

    def track(pieces: Any) -> Any:
        for i, piece in enumerate(pieces):
            tracked.append(len(pieces))
            assert i < len(pieces) and len(piece)
            yield piece

    prune(
        one_gene_reader(tokenizer.vocabulary),
        judge(cells, tokenizer),
        [ranking("g0"), ranking("g1", name="hvg")],
        PruningSettings((0.5,), batch_tokens=10),
        track,
    )
    assert len(tracked) == tracked[0] > 1


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
        ({"ratios": (0.5,), "rank_source": "pair"}, r"pruning.rank_source.*'pair'.*'per_pair'"),
        ({"ratios": (0.5,), "controls": ("degs",)}, r"pruning.controls.*'degs'.*'deg'"),
        ({"ratios": (0.5,), "retrain": (0.0,)}, r"pruning.retrain.*\(0, 1\).*0.0"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PruningSettings(**settings)
