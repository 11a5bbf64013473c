"""Stability over pairs and donors, against what signal and noise of known size must give."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gradgene.errors import ConfigError, RankingError
from gradgene.evaluation.stability import (
    Stability,
    donor_stability,
    pair_stability,
    plateau,
    sizes,
    table_stability,
)
from gradgene.genes import DonorScores

RNG = np.random.default_rng(0)


def noisy(n_pairs: int, noise: float, n_genes: int = 600) -> np.ndarray:
    """(pairs, genes) the same normal signal in every pair, plus noise."""
    signal = RNG.normal(size=n_genes)
    return signal + noise * RNG.normal(size=(n_pairs, n_genes))


def test_pairs_that_all_say_the_same() -> None:
    table = pair_stability(np.tile(RNG.normal(size=40), (24, 1)), np.arange(24), n_draws=2)
    assert table["n_pairs"].tolist() == [10, 12] * 2
    assert (table[["spearman", "top_overlap"]] == 1).all(axis=None)
    assert set(table["n_genes"]) == {40}


def test_the_curve_is_that_of_signal_and_noise() -> None:
    noise, n = 4.0, 200
    table = pair_stability(noisy(n, noise), np.arange(n), n_draws=5, top_k=30, seed=1)
    found = table.groupby("n_pairs")["spearman"].mean()
    assert found.index.tolist() == [10, 20, 50, 100]
    for size, value in found.items():
        pearson = ((1 + noise**2 / size) * (1 + noise**2 / (n // 2))) ** -0.5  # type: ignore[operator]
        expected = 6 / np.pi * np.arcsin(pearson / 2)  # Spearman's of normal scores
        assert value == pytest.approx(expected, abs=0.05)


def test_enough_pairs_and_too_few() -> None:
    steady = pair_stability(noisy(400, 0.5), np.arange(400), n_draws=3)
    assert plateau(steady).n_enough == 10
    assert plateau(steady).n_most == 200
    rising = pair_stability(noisy(60, 20.0), np.arange(60), n_draws=5)
    assert plateau(rising).n_enough is None
    assert plateau(steady).can_tell and plateau(rising).can_tell


@pytest.mark.parametrize(("n", "can_tell"), [(12, False), (38, False), (40, True)])
def test_few_pairs_cannot_tell(n: int, can_tell: bool) -> None:
    """Even the smallest sample is more than half of the most pairs."""
    found = plateau(pair_stability(noisy(n, 0.1), np.arange(n), n_draws=2))
    assert found.can_tell is can_tell
    assert found.n_enough == (10 if can_tell else None)


def test_nothing_to_reach_cannot_be_told() -> None:
    flat = pair_stability(np.ones((60, 5)), np.arange(60), n_draws=2)
    assert not plateau(flat).can_tell


def test_pairs_of_one_input_stay_together() -> None:
    # Two equal pairs an input and nothing else in common: halves by pair would agree.
    scores = np.repeat(RNG.normal(size=(30, 500)), 2, axis=0)
    table = pair_stability(scores, np.repeat(np.arange(30), 2), n_draws=5)
    assert table["spearman"].abs().max() < 0.2
    apart = pair_stability(scores, np.arange(60), n_draws=5)
    assert apart.loc[apart["n_pairs"] == 30, "spearman"].mean() > 0.25


def test_ranked_by_magnitude() -> None:
    size = np.arange(1.0, 51)
    flips = RNG.choice([-1, 1], (2, 50))
    scores = np.repeat(size * flips, [1, 1], axis=0)
    table = pair_stability(scores, np.arange(2), n_draws=1, top_k=5, absolute=True)
    assert (table["spearman"].item(), table["top_overlap"].item()) == (1, 1)
    assert pair_stability(scores, np.arange(2), n_draws=1)["spearman"].item() < 0.9


def test_the_same_seed_gives_the_same_table() -> None:
    scores = noisy(30, 3.0, 50)
    one, two, other = (
        pair_stability(scores, np.arange(30), n_draws=2, seed=seed) for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(one, two)
    assert not one.equals(other)


@pytest.mark.parametrize(("scores", "inputs"), [((3, 5), [0, 0, 0]), ((0, 5), [])])
def test_what_cannot_be_halved(scores: tuple[int, int], inputs: list[int]) -> None:
    with pytest.raises(RankingError, match="halved"):
        pair_stability(np.ones(scores), np.array(inputs))
    with pytest.raises(RankingError, match="0 genes"):
        pair_stability(np.zeros((2, 3)), np.arange(2))


def test_sizes() -> None:
    assert sizes(7) == [7]
    assert sizes(10) == [10]
    assert sizes(256) == [10, 20, 50, 100, 200, 256]


def donors(**scores: tuple[int, list[float]]) -> DonorScores:
    """Donor -> number of pairs and scores of genes a, b, c …."""
    frames = [
        pd.DataFrame({"donor": d, "gene": list("abcdef"[: len(s)]), "n_pairs": n, "score": s})
        for d, (n, s) in scores.items()
    ]
    zero = ["baseline_sum", "baseline_weight", "both_sum", "both_weight"]
    return DonorScores(pd.concat(frames).assign(**dict.fromkeys(zero, 0.0)), "toy")


def test_donors_left_out() -> None:
    alike, large = [4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]
    found = donor_stability(donors(x=(1, alike), y=(1, alike), z=(8, large)), top_k=1)
    table = found.set_index(["donor", "against"])
    assert table.loc[("z", "all"), "spearman"] == -1  # all rests on z
    assert table.loc[("x", "all"), "spearman"] == 1
    assert table.loc[("x", "donor"), "spearman"] == -1
    assert table.loc[("x", "all"), "n_pairs"] == 9
    assert table.loc[("z", "donor"), "top_overlap"] == 0


def test_one_donor_has_no_others() -> None:
    assert donor_stability(donors(x=(3, [1.0, 2.0]))).empty


def genes(scores: dict[str, float]) -> pd.DataFrame:
    """A gene table with a row of a phenotype token, which has no rank."""
    ranks = pd.Series(scores).rank(ascending=False).astype(int).tolist()
    return pd.DataFrame(
        {
            "gene": [*scores, "@sex"],
            "score": [*scores.values(), 9.0],
            "direction": "up",
            "rank": pd.array([*ranks, None], dtype="Int64"),
        }
    )


def test_tables_of_several_runs() -> None:
    one = genes({"a": 3.0, "b": 2.0, "c": 1.0})
    turned = genes({"a": 1.0, "b": 2.0, "c": 3.0})
    found = table_stability({"seed 0": one, "seed 1": one, "seed 2": turned}, top_k=1)
    assert found[["first", "second"]].to_numpy().tolist() == [
        ["seed 0", "seed 1"],
        ["seed 0", "seed 2"],
        ["seed 1", "seed 2"],
    ]
    assert found["spearman"].tolist() == [1, -1, -1]
    assert found["top_overlap"].tolist() == [1, 0, 0]
    assert set(found["n_genes"]) == {3}
    with pytest.raises(RankingError, match="two tables"):
        table_stability({"only": one})


@pytest.mark.parametrize("name", ["n_pairs", "n_draws", "top_k", "seed"])
def test_settings_that_measure_nothing(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Stability(**{name: -1})
