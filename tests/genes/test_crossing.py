"""Intervals where donors of baseline cells are drawn as well as those of input cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gradgene.errors import RankingError
from gradgene.genes.crossing import Crossing, CrossingSums
from gradgene.genes.statistics import crossed_interval, donor_interval


def sums_of(crossing: Crossing, scores_pf: np.ndarray, label: str | None = None) -> CrossingSums:
    """What a metric would have summed of these scores."""
    n = len(crossing.rows)
    sums_rf, weights_r = np.zeros((n, scores_pf.shape[1])), np.zeros(n)
    for row_p, weight_p in zip(crossing.row_pk.T, crossing.weight_pk.T, strict=True):
        for pair in np.flatnonzero(row_p >= 0):
            sums_rf[row_p[pair]] += weight_p[pair] * scores_pf[pair]
            weights_r[row_p[pair]] += weight_p[pair]
    of_r = crossing.rows["label"]
    mine = (of_r.isna() if label is None else of_r == label).to_numpy()
    rows = crossing.rows[mine].assign(label=None).reset_index(drop=True)
    return CrossingSums(rows, sums_rf[mine], weights_r[mine])


def means_of(inputs_p: np.ndarray, scores_pf: np.ndarray) -> tuple[list[str], np.ndarray]:
    donors = sorted(set(inputs_p))
    return donors, np.stack([scores_pf[inputs_p == d].mean(axis=0) for d in donors])


def by_hand(
    inputs_p: np.ndarray, baselines_p: np.ndarray, scores_pf: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and its standard error by leaving out one donor after the other."""
    w_p = np.array([1 / (inputs_p == d).sum() for d in inputs_p])

    def mean(kept_p: np.ndarray) -> np.ndarray:
        return (w_p[kept_p, None] * scores_pf[kept_p]).sum(axis=0) / w_p[kept_p].sum()

    mean_f = mean(np.ones(len(w_p), dtype=bool))
    sizes = [len(set(side)) for side in (inputs_p, baselines_p)]
    square_f = np.zeros(scores_pf.shape[1])
    for d in {*inputs_p, *baselines_p}:
        on = [n for n, side in zip(sizes, (inputs_p, baselines_p), strict=True) if d in side]
        share = np.prod([(n - 1) / n for n in on]) ** (1 / len(on))
        square_f += share * (mean((inputs_p != d) & (baselines_p != d)) - mean_f) ** 2
    return mean_f, np.sqrt(square_f)


def draw(
    seed: int, inputs: list[str], baselines: list[str], n: int = 60
) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    inputs_p = np.array([*inputs, *rng.choice(inputs, n)], dtype=object)
    baselines_p = rng.choice(baselines, len(inputs_p)).astype(object)
    baselines_p[: len(baselines)] = baselines[: len(inputs_p)]
    return inputs_p, baselines_p, rng


SIDES = {
    "apart": (list("abcde"), list("xyz")),
    "the same donors": (list("abcd"), list("abcd")),
    "some in common": (list("abcd"), list("cdefg")),
}


@pytest.mark.parametrize("sides", SIDES.values(), ids=SIDES)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_donor_counts_once_for_each_pair_it_is_in(
    sides: tuple[list[str], list[str]], seed: int
) -> None:
    inputs_p, baselines_p, rng = draw(seed, *sides)
    scores_pf = rng.normal(size=(len(inputs_p), 4))
    crossed = sums_of(Crossing.of(inputs_p, baselines_p), scores_pf)
    found = crossed_interval(crossed)
    mean_f, se_f = by_hand(inputs_p, baselines_p, scores_pf)
    np.testing.assert_allclose(found.se, se_f, rtol=1e-10)
    np.testing.assert_allclose((found.low + found.high) / 2, mean_f, atol=1e-12)
    df = len({*inputs_p, *baselines_p}) - 1
    most = 2 * stats.t.sf(np.abs(mean_f / se_f), df)
    assert (found.p >= most - 1e-12).all()  # never more degrees of freedom than donors allow


def test_sides_without_a_donor_in_common_have_welchs_interval() -> None:
    """Every input donor against every baseline donor equally often, so that sides add up."""
    rng = np.random.default_rng(4)
    inputs, baselines = list("abcde"), list("xyz")
    inputs_p, baselines_p = (m.ravel() for m in np.meshgrid(inputs, baselines))
    effect = {d: rng.normal() for d in (*inputs, *baselines)}
    scores_pf = np.array(
        [[effect[i] - effect[b]] for i, b in zip(inputs_p, baselines_p, strict=True)]
    )
    crossed = sums_of(Crossing.of(inputs_p.astype(object), baselines_p.astype(object)), scores_pf)
    sides = [[effect[d] for d in side] for side in (inputs, baselines)]
    expected = stats.ttest_ind(*sides, equal_var=False)
    found = crossed_interval(crossed)
    assert found.p[0] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.low[0], found.high[0]) == pytest.approx((interval.low, interval.high))


def test_pairs_within_donors_have_the_usual_interval() -> None:
    inputs_p, _, rng = draw(1, list("abcd"), list("abcd"))
    scores_pf = rng.normal(size=(len(inputs_p), 5))
    _, means_df = means_of(inputs_p, scores_pf)
    crossed = sums_of(Crossing.of(inputs_p, inputs_p), scores_pf)
    found, expected = crossed_interval(crossed), donor_interval(means_df)
    for name in ("se", "low", "high", "p"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9)


@pytest.mark.parametrize("sides", [("ab", "wxyz"), ("abcd", "xy")])
def test_three_donors_on_either_side(sides: tuple[str, str]) -> None:
    inputs_p, baselines_p, rng = draw(2, list(sides[0]), list(sides[1]))
    scores_pf = rng.normal(size=(len(inputs_p), 2))
    crossed = sums_of(Crossing.of(inputs_p, baselines_p), scores_pf)
    assert np.isnan(crossed_interval(crossed).p).all()


def test_labels_weigh_their_own_pairs() -> None:
    inputs_p, baselines_p, rng = draw(3, list("abc"), list("xyz"))
    labels_p = np.array(["B", "T", ""], dtype=object)[np.arange(len(inputs_p)) % 3]
    scores_pf = rng.normal(size=(len(inputs_p), 3))
    crossing = Crossing.of(inputs_p, baselines_p, labels_p)
    assert set(crossing.rows["label"].dropna()) == {"B", "T"}
    mine = labels_p == "T"
    part = sums_of(Crossing.of(inputs_p[mine], baselines_p[mine]), scores_pf[mine])
    found = sums_of(crossing, scores_pf, "T")
    for side in ("input", "baseline"):
        for one, other in zip(found.side(side), part.side(side), strict=True):
            np.testing.assert_array_equal(one, other)
    whole = sums_of(Crossing.of(inputs_p, baselines_p), scores_pf)
    np.testing.assert_array_equal(sums_of(crossing, scores_pf).sums_rf, whole.sums_rf)


def test_unknown_donors_are_nobody() -> None:
    inputs_p = np.array(["a", "", "b", "c"], dtype=object)
    baselines_p = np.array(["x", "x", "", "c"], dtype=object)
    crossing = Crossing.of(inputs_p, baselines_p)
    assert crossing.rows.to_dict("list") == {
        "side": ["baseline"] * 2 + ["both"] + ["input"] * 3,
        "donor": ["c", "x", "c", "a", "b", "c"],
        "label": [None] * 6,
    }
    expected = [[3, 1, -1], [-1, -1, -1], [4, -1, -1], [5, 0, 2]]
    np.testing.assert_array_equal(crossing.row_pk, expected)
    with pytest.raises(RankingError, match="do not fit"):
        Crossing(crossing.rows.head(1), crossing.row_pk, crossing.weight_pk)


def test_an_unknown_baseline_donor_leaves_no_interval() -> None:
    inputs_p, baselines_p, rng = draw(5, list("abcd"), list("wxyz"))
    scores_pf = rng.normal(size=(len(inputs_p), 2))
    known = crossed_interval(sums_of(Crossing.of(inputs_p, baselines_p), scores_pf))
    baselines_p[3] = ""
    unknown = crossed_interval(sums_of(Crossing.of(inputs_p, baselines_p), scores_pf))
    assert np.isfinite(known.p).all() and np.isnan(unknown.p).all()


def test_pairs_left_out_weigh_nothing() -> None:
    """Weights are those of the plan; sums, those of the pairs that were explained."""
    inputs_p, baselines_p, rng = draw(6, list("abcd"), list("vwxyz"), n=80)
    scores_pf = rng.normal(size=(len(inputs_p), 3))
    crossing = Crossing.of(inputs_p, baselines_p)
    kept_p = rng.random(len(inputs_p)) < 0.6
    kept = Crossing(crossing.rows, crossing.row_pk[kept_p], crossing.weight_pk[kept_p])
    found = crossed_interval(sums_of(kept, scores_pf[kept_p]))
    w_p = crossing.weight_pk[kept_p, 0]
    mean_f = (w_p[:, None] * scores_pf[kept_p]).sum(axis=0) / w_p.sum()
    np.testing.assert_allclose((found.low + found.high) / 2, mean_f, atol=1e-12)
    square_f = np.zeros(3)
    for donors, n in ((inputs_p[kept_p], 4), (baselines_p[kept_p], 5)):
        for d in set(donors):
            rest = donors != d
            left = (w_p[rest, None] * scores_pf[kept_p][rest]).sum(axis=0) / w_p[rest].sum()
            square_f += (n - 1) / n * (left - mean_f) ** 2
    np.testing.assert_allclose(found.se, np.sqrt(square_f), rtol=1e-10)


@pytest.mark.parametrize("n_donors", [3, 4, 8])
def test_donors_that_respond_differently_are_no_effect(n_donors: int) -> None:
    """Donors on both sides, pairs across donors; responses of donors vary around nothing."""
    rng = np.random.default_rng(n_donors)
    n_genes, names = 4000, np.array([f"d{k}" for k in range(n_donors)], dtype=object)
    inputs_p, baselines_p = np.repeat(names, 20), rng.choice(names, 20 * n_donors)
    own_df, response_df = rng.normal(size=(2, n_donors, n_genes))
    place = {name: k for k, name in enumerate(names)}
    i_p, b_p = ([place[d] for d in side] for side in (inputs_p, baselines_p))
    noise_pf = 0.5 * rng.normal(size=(len(inputs_p), n_genes))
    scores_pf = own_df[i_p] + response_df[i_p] - own_df[b_p] + noise_pf
    found = crossed_interval(sums_of(Crossing.of(inputs_p, baselines_p), scores_pf))
    assert 0.02 < (found.p < 0.05).mean() < 0.06


@pytest.mark.parametrize(("n_inputs", "n_baselines"), [(10, 3), (7, 3), (16, 16)])
def test_nothing_is_found_where_donors_differ_for_no_reason(
    n_inputs: int, n_baselines: int
) -> None:
    """Scores h(input cell) - h(baseline cell), h of a cell its donor's plus its own."""
    rng = np.random.default_rng(0)
    n_genes = 4000
    inputs = [f"i{k}" for k in range(n_inputs)]
    baselines = [f"b{k}" for k in range(n_baselines)]
    inputs_p = np.repeat(np.array(inputs, dtype=object), 12)
    baselines_p = rng.choice(np.array(baselines, dtype=object), len(inputs_p))
    donor_df = rng.normal(size=(n_inputs + n_baselines, n_genes))
    place = {name: k for k, name in enumerate([*inputs, *baselines])}
    first_pf, second_pf = (
        donor_df[[place[d] for d in names]] + rng.normal(size=(len(names), n_genes))
        for names in (inputs_p, baselines_p)
    )
    scores_pf = first_pf - second_pf
    _, means_df = means_of(inputs_p, scores_pf)
    crossed = sums_of(Crossing.of(inputs_p, baselines_p), scores_pf)
    share = (crossed_interval(crossed).p < 0.05).mean()
    naive = (donor_interval(means_df).p < 0.05).mean()
    assert 0.005 < share < 0.07 and naive > 2 * share and naive > 0.1
