"""Hits are shares of groups, counted by sample; labels are compared with samples as replicates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.errors import ConfigError, LabelError
from gradgene.store import CellScores, GeneWeights, HitRules
from gradgene.store.hits import count_hits, hit_shares


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.99), st.integers(1, 60))
def test_hits_add_up_to_their_share(seed: int, share: float, n: int) -> None:
    rng = np.random.default_rng(seed)
    scores, groups = rng.integers(0, 5, n).astype(float), rng.integers(0, 3, n)
    hit = hit_shares(scores, groups, share)
    assert ((hit >= 0) & (hit <= 1 + 1e-12)).all()
    for group in np.unique(groups):
        mine = groups == group
        assert hit[mine].sum() == pytest.approx(share * mine.sum())
        order = np.argsort(scores[mine])
        assert (np.diff(hit[mine][order]) >= -1e-12).all()  # a better cell is no smaller hit
        for value in np.unique(scores[mine]):
            assert np.ptp(hit[mine & (scores == value)]) < 1e-12


def studied(effect: float, n_donors: int = 5, n: int = 40) -> CellScores:
    """Scores of donors with 40 cells of each of two labels, higher in `case` by `effect`."""
    rng = np.random.default_rng(1)
    n_cells = n_donors * 2 * n
    labels = np.tile(np.repeat(["case", "control"], n), n_donors)
    cells = pd.DataFrame(
        {
            "part": pd.Categorical(["k1"] * n_cells),
            "cell": [f"c{i}" for i in range(n_cells)],
            "score": rng.normal(size=n_cells) + effect * (labels == "case"),
            "donor": pd.Categorical(np.repeat([f"d{i}" for i in range(n_donors)], 2 * n)),
            "disease": pd.Categorical(labels),
            "kind": pd.Categorical(rng.choice(["B", "T"], n_cells)),
        }
    )
    coverage = pd.DataFrame({"part": ["k1"], "data": ["data1"]})
    return CellScores(cells, coverage, GeneWeights.of(["G"], None))


def test_hit_fractions_by_hand() -> None:
    scores = studied(1.0)
    hits = scores.hits("donor", "disease", share=0.1)
    cells = scores.cells
    least = cells["score"].nlargest(40).min()
    cells = cells.assign(hit=cells["score"] >= least)
    by_hand = cells.groupby(["disease", "donor"], observed=True)["hit"].agg(["size", "sum", "mean"])
    np.testing.assert_allclose(hits.samples[["n_cells", "hits", "fraction"]], by_hand)
    assert (hits.samples["note"] == "").all() and hits.to_pandas().equals(hits.samples)
    labels = hits.labels.set_index("label")
    assert labels.index.tolist() == ["case", "control"]
    case = by_hand["mean"].groupby("disease", observed=True).mean()["case"]
    np.testing.assert_allclose(labels["fraction"].iloc[0], case)
    np.testing.assert_allclose(labels["others"].iloc[1], case)
    # Five donors with both labels: 2 of 32 ways to exchange them are as extreme.
    assert labels["p"].tolist() == pytest.approx([1 / 16] * 2, abs=0.01)
    assert labels["p_adjusted"].tolist() == pytest.approx([1 / 16] * 2, abs=0.01)
    by_kind = scores.hits("donor", "disease", group="kind")
    kind_hits = hit_shares(
        cells["score"].to_numpy(), (cells["kind"] == "B").to_numpy().astype(np.int64), 0.1
    )
    assert by_kind.samples["hits"].sum() == pytest.approx(40)
    one = (cells["donor"] == "d3") & (cells["disease"] == "case")
    row = by_kind.samples[by_kind.samples[["sample", "label"]].eq(["d3", "case"]).all(axis=1)]
    np.testing.assert_allclose(row["hits"], [kind_hits[one].sum()])


def test_small_samples_and_labels_are_listed() -> None:
    scores = studied(0.0)
    hits = scores.hits("donor", "disease", rules=HitRules(min_cells=41))
    assert set(hits.samples["note"]) == {"fewer than 41 cells"}
    assert hits.labels["n_too_small"].tolist() == [5, 5] and hits.labels["p"].isna().all()
    rare = scores.hits("donor", "disease", rules=HitRules(min_samples=6))
    assert set(rare.samples["note"]) == {"label has fewer than 6 samples that count"}
    assert set(rare.labels["note"]) == {"5 samples that count, 6 needed"}
    untested = scores.hits("donor", "disease", rules=HitRules(n_permutations=0)).labels
    assert set(untested["note"]) == {"no permutations"} and untested["p"].isna().all()
    case = replace(scores, cells=scores.cells[scores.cells["disease"] == "case"])
    alone = case.hits("donor", "disease").labels
    assert alone["label"].tolist() == ["case"]
    assert set(alone["note"]) == {"no other label to compare with"}


def test_samples_of_other_data_are_others() -> None:
    """Donors are those of a data set: two runs on it share them, another data set does not."""
    one = studied(0.0)
    parts = [one.cells.assign(part=name) for name in ("k1", "k2", "k3")]
    coverage = pd.DataFrame({"part": ["k1", "k2", "k3"], "data": ["a", "a", "b"]})
    scores = CellScores(pd.concat(parts, ignore_index=True), coverage, one.asked)
    samples = scores.hits("donor", "disease").samples
    assert len(samples) == 20
    assert samples.groupby("data")["n_cells"].unique().map(list).to_dict() == {"a": [80], "b": [40]}
    # Scores of other units: within parts each gives its 10 %, pooled the larger ones give all.
    scores.cells.loc[scores.cells["part"] == "k3", "score"] += 100.0
    within = scores.hits("donor", "disease").samples.groupby("data")["hits"].sum()
    assert within.tolist() == pytest.approx([80, 40])
    pooled = scores.hits("donor", "disease", pooled=True).samples.groupby("data")["hits"].sum()
    assert pooled.tolist() == pytest.approx([0, 120])


@pytest.mark.parametrize("several", [True, False])
def test_permutations_hold_their_level(several: bool) -> None:
    """Strong donors, no effect: few of 100 p are below 0.05, with paired donors and without."""
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(10), 50)
    label = (np.arange(500) % 2 if several else donor % 2).astype(str)
    p = []
    for number in range(100):
        hit = rng.random(500) < rng.uniform(0.05, 0.5, 10)[donor]
        cells = pd.DataFrame(
            {"data": "d", "sample": donor, "label": label, "hit": hit.astype(float)}
        )
        rules = HitRules(n_permutations=199, seed=number)
        p.append(count_hits(cells, rules, pooled=False).labels["p"][0])
    assert np.mean(np.array(p) < 0.05) <= 0.1
    assert 0.4 <= np.mean(p) <= 0.65


def test_what_data_sets_add_says_nothing() -> None:
    """Case only in data with many hits: exchanged within data, nothing is left to compare."""
    rows = [("a", f"a{i}", "case", 1.0) for i in range(4)]
    rows += [("b", f"b{i}", "control", 0.0) for i in range(4)]
    cells = pd.DataFrame(rows, columns=["data", "sample", "label", "hit"])
    cells = cells.loc[np.repeat(cells.index, 30)]
    assert count_hits(cells, HitRules(n_permutations=99), pooled=False).labels["p"][0] == 1
    assert count_hits(cells, HitRules(n_permutations=999), pooled=True).labels["p"][0] < 0.06
    with pytest.raises(LabelError, match="no cell has both"):
        count_hits(cells.assign(sample=None), HitRules(), pooled=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"share": 1.0}, "share: is no share"),
        ({"sample": "doner"}, "'doner'.*'donor'"),
        ({"group": "cells"}, "no obs column 'cells'"),
    ],
)
def test_hits_are_checked(words: dict[str, object], message: str) -> None:
    given = {"sample": "donor", "label": "disease", **words}
    with pytest.raises((ConfigError, LabelError), match=message):
        studied(0.0).hits(**given)  # type: ignore[arg-type]


def test_rules_are_checked() -> None:
    with pytest.raises(ConfigError, match="min_samples: is too small"):
        HitRules(min_samples=1)
