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
    """Mean and standard error, donor by donor over their pairs."""
    donors = sorted(set(inputs_p))
    w_p = np.array([1 / (len(donors) * (inputs_p == d).sum()) for d in inputs_p])[:, None]
    mean_f = (w_p * scores_pf).sum(axis=0)
    everyone = sorted({*inputs_p, *baselines_p})
    rest_pf = w_p * (scores_pf - mean_f)
    a, b = (np.sqrt(len(n) / (len(n) - 1)) for n in (set(inputs_p), set(baselines_p)))
    moved = []
    for d in everyone:
        of_i, of_b = inputs_p == d, baselines_p == d
        part = a * rest_pf[of_i].sum(axis=0) + b * rest_pf[of_b].sum(axis=0)
        moved.append(part - np.sqrt(a * b) * rest_pf[of_i & of_b].sum(axis=0))
    return mean_f, np.sqrt(np.square(moved).sum(axis=0))


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
    donors, means_df = means_of(inputs_p, scores_pf)
    crossed = sums_of(Crossing.of(inputs_p, baselines_p), scores_pf)
    found = crossed_interval(means_df, donors, crossed)
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
    donors, means_df = means_of(inputs_p, scores_pf)
    crossed = sums_of(Crossing.of(inputs_p.astype(object), baselines_p.astype(object)), scores_pf)
    sides = [[effect[d] for d in side] for side in (inputs, baselines)]
    expected = stats.ttest_ind(*sides, equal_var=False)
    found = crossed_interval(means_df, donors, crossed)
    assert found.p[0] == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (found.low[0], found.high[0]) == pytest.approx((interval.low, interval.high))


def test_pairs_within_donors_have_the_usual_interval() -> None:
    inputs_p, _, rng = draw(1, list("abcd"), list("abcd"))
    scores_pf = rng.normal(size=(len(inputs_p), 5))
    donors, means_df = means_of(inputs_p, scores_pf)
    crossed = sums_of(Crossing.of(inputs_p, inputs_p), scores_pf)
    found, expected = crossed_interval(means_df, donors, crossed), donor_interval(means_df)
    for name in ("se", "low", "high", "p"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9)


@pytest.mark.parametrize("sides", [("ab", "wxyz"), ("abcd", "xy")])
def test_three_donors_on_either_side(sides: tuple[str, str]) -> None:
    inputs_p, baselines_p, rng = draw(2, list(sides[0]), list(sides[1]))
    scores_pf = rng.normal(size=(len(inputs_p), 2))
    donors, means_df = means_of(inputs_p, scores_pf)
    crossed = sums_of(Crossing.of(inputs_p, baselines_p), scores_pf)
    assert np.isnan(crossed_interval(means_df, donors, crossed).p).all()


def test_labels_weigh_their_own_pairs() -> None:
    inputs_p, baselines_p, rng = draw(3, list("abc"), list("xyz"))
    labels_p = np.array(["B", "T", ""], dtype=object)[np.arange(len(inputs_p)) % 3]
    scores_pf = rng.normal(size=(len(inputs_p), 3))
    crossing = Crossing.of(inputs_p, baselines_p, labels_p)
    assert set(crossing.rows["label"].dropna()) == {"B", "T"}
    mine = labels_p == "T"
    part = sums_of(Crossing.of(inputs_p[mine], baselines_p[mine]), scores_pf[mine])
    found = sums_of(crossing, scores_pf, "T")
    for one, other in zip(found.side("baseline"), part.side("baseline"), strict=True):
        np.testing.assert_array_equal(one, other)
    whole = sums_of(Crossing.of(inputs_p, baselines_p), scores_pf)
    np.testing.assert_array_equal(sums_of(crossing, scores_pf).sums_rf, whole.sums_rf)


def test_unknown_donors_are_nobody() -> None:
    inputs_p = np.array(["a", "", "b", "c"], dtype=object)
    baselines_p = np.array(["x", "x", "", "c"], dtype=object)
    crossing = Crossing.of(inputs_p, baselines_p)
    assert crossing.rows.to_dict("list") == {
        "side": ["baseline", "baseline", "both"],
        "donor": ["c", "x", "c"],
        "label": [None] * 3,
    }
    np.testing.assert_array_equal(crossing.row_pk, [[1, -1], [-1, -1], [-1, -1], [0, 2]])
    nobody = Crossing.of(inputs_p, np.array([""] * 4, dtype=object))
    assert len(nobody.rows) == 0 and (nobody.row_pk == -1).all()
    with pytest.raises(RankingError, match="do not fit"):
        Crossing(crossing.rows.head(1), crossing.row_pk, crossing.weight_pk)


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
    donors, means_df = means_of(inputs_p, scores_pf)
    crossed = sums_of(Crossing.of(inputs_p, baselines_p), scores_pf)
    share = (crossed_interval(means_df, donors, crossed).p < 0.05).mean()
    naive = (donor_interval(means_df).p < 0.05).mean()
    assert 0.005 < share < 0.07 and naive > 2 * share and naive > 0.1
