"""Controls compared with the trained model, and the verdict on closed-form toys."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gradgene.errors import ConfigError
from gradgene.evaluation.sanity import Control, Sanity, judge_sanity, sanity_table

RNG = np.random.default_rng(0)
TRAINED = RNG.normal(size=400)
EVERYWHERE = np.ones(400)


def models(*scores: np.ndarray, depth: int = 2) -> list[Control]:
    """Fully random models with these scores, and half random ones that rank as the trained one."""
    half = Control("randomisation", "head", TRAINED, 8, depth=1)
    return [
        half,
        *(Control("randomisation", "embeddings", s, 8, depth, i) for i, s in enumerate(scores)),
    ]


def test_a_method_that_ignores_the_weights_fails() -> None:
    verdict = judge_sanity(sanity_table(TRAINED, EVERYWHERE, models(TRAINED, TRAINED)), 0.5)
    assert (verdict.similarity, verdict.passed) == (1, False)


def test_the_opposite_order_is_the_same_ranking() -> None:
    assert judge_sanity(sanity_table(TRAINED, EVERYWHERE, models(-TRAINED)), 0.5).passed is False


def test_unrelated_scores_pass_whatever_shallower_steps_say() -> None:
    verdict = judge_sanity(sanity_table(TRAINED, EVERYWHERE, models(RNG.normal(size=400))), 0.5)
    assert verdict.passed
    assert verdict.similarity < 0.15


def drawn(*spearman: float) -> pd.DataFrame:
    """A table of fully random models of these correlations, below a step that is not judged."""
    cascade = {"check": "randomisation", "depth": 2, "spearman": spearman}
    half = {"check": "randomisation", "depth": 1, "spearman": [1.0]}
    return pd.concat([pd.DataFrame(half), pd.DataFrame(cascade)], ignore_index=True)


@pytest.mark.parametrize(
    ("spearman", "greatest", "passed"),
    [
        ((0.10, 0.45, 0.95), 0.95, False),
        ((0.10, -0.60, 0.20), 0.60, False),
        ((0.10, 0.45, -0.50), 0.50, True),
        ((0.10, np.nan, 0.95), 0.95, False),
    ],
)
def test_one_draw_too_many_fails(
    spearman: tuple[float, ...], greatest: float, passed: bool
) -> None:
    verdict = judge_sanity(drawn(*spearman), 0.5)
    assert (verdict.similarity, verdict.passed, verdict.n_draws) == (greatest, passed, 3)
    assert verdict.typical == pytest.approx(np.nanmedian(np.abs(spearman)))


def test_draws_without_a_correlation_are_no_pass() -> None:
    verdict = judge_sanity(drawn(0.1, np.nan, np.nan), 0.5)
    assert (verdict.similarity, verdict.passed, verdict.n_undefined) == (0.1, None, 2)
    assert judge_sanity(drawn().iloc[:0], 0.5).passed is None


def test_magnitudes_are_judged_where_genes_are_ranked_by_them() -> None:
    signs = RNG.choice([-1, 1], 400)
    table = sanity_table(TRAINED, EVERYWHERE, models(signs * TRAINED))
    assert judge_sanity(table, 0.5).passed
    assert judge_sanity(table, 0.5, by="spearman_abs").passed is False


def test_scores_without_an_order_are_no_verdict() -> None:
    verdict = judge_sanity(sanity_table(TRAINED, EVERYWHERE, models(np.zeros(400))), 0.5)
    assert np.isnan(verdict.similarity) and np.isnan(verdict.typical)
    assert (verdict.passed, verdict.n_undefined) == (None, 1)


def test_magnitudes_that_only_follow_how_often_genes_are_seen() -> None:
    share = RNG.random(400)
    one, other = (share * np.exp(0.3 * RNG.normal(size=400)) for _ in range(2))
    row = sanity_table(one, share, [Control("reference", "other", -other, 8)]).iloc[0]
    assert row["spearman_abs"] > 0.7
    assert abs(row["spearman_abs_given_share"]) < 0.15


def test_genes_in_no_pair_are_not_compared() -> None:
    share = np.r_[np.ones(200), np.zeros(200)]
    other = np.r_[TRAINED[:200], -TRAINED[200:]]
    row = sanity_table(TRAINED, share, [Control("reference", "other", 2 * other, 8)]).iloc[0]
    assert (row["spearman"], row["n_genes"]) == (1, 200)
    assert row["relative_size"] == pytest.approx(2)


def test_what_could_not_be_made_says_why() -> None:
    missing = Control("label_permutation", "permuted labels", None, 0, note="no donor")
    table = sanity_table(TRAINED, EVERYWHERE, [missing])
    assert table["note"].tolist() == ["no donor"]
    assert table[["spearman", "relative_size", "p_share"]].isna().all(axis=None)
    assert isinstance(table, pd.DataFrame)


@pytest.mark.parametrize(
    "wrong",
    [{"n_pairs": 1}, {"n_draws": 0}, {"threshold": 1.0}, {"on_failure": "ignore"}, {"seed": -1}],
)
def test_settings_that_make_no_check(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Sanity(**wrong)  # type: ignore[arg-type]
