"""Spearman's correlation of score x direction with published fold changes."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gradgene.errors import ConfigError
from gradgene.evaluation import KnownEffects, PooledScores, effect_agreement

GENES = list("abcde")


def by_gene(*values: float) -> pd.Series:
    return pd.Series(values, index=GENES[: len(values)], dtype=float)


@pytest.mark.parametrize(
    ("scores", "direction", "published", "expected"),
    [
        # A gene that is down and speaks for the label by its absence has a positive score.
        ((3, 2, 1, 4), (1, 1, 1, -1), (2.0, 1.5, 0.1, -3.0), 1.0),
        ((3, 2, 1, 4), (-1, -1, -1, 1), (2.0, 1.5, 0.1, -3.0), -1.0),
        # d² = 1 + 1 in ranks of four: 1 - 6 · 2 / (4 · 15).
        ((1, 2, 4, 3), (1, 1, 1, 1), (1.0, 2.0, 3.0, 4.0), 0.8),
        # Magnitudes: only the direction puts -5 below the others.
        ((5, 1, 2), (-1, 1, 1), (-2.0, 0.5, 1.0), 1.0),
        # No direction counts as no effect, between up and down.
        ((5, 9, 2), (-1, 0, 1), (-2.0, 0.0, 1.0), 1.0),
    ],
)
def test_closed_forms(
    scores: tuple[float, ...],
    direction: tuple[float, ...],
    published: tuple[float, ...],
    expected: float,
) -> None:
    found = effect_agreement(by_gene(*scores), by_gene(*direction), by_gene(*published))
    assert found.n_genes == len(scores)
    assert found.spearman == pytest.approx(expected)


def test_only_shared_genes_with_numbers_count() -> None:
    scores = pd.Series({"x": 9.0, "b": 2.0, "c": 3.0, "a": 1.0, "d": np.nan, "e": 0.0})
    published = pd.Series({"a": 1.0, "b": 2.0, "c": 3.0, "d": -9.0, "e": np.nan, "y": 7.0})
    found = effect_agreement(scores, pd.Series(1.0, index=[*scores.index, "y"]), published)
    assert found.n_genes == 3
    assert found.spearman == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("scores", "published", "n"),
    [((1, 2), (1, 2), 2), ((1, 1, 1), (1, 2, 3), 3), ((1, 2, 3), (4, 4, 4), 3), ((), (), 0)],
)
def test_too_few_genes_or_no_variance(
    scores: tuple[float, ...], published: tuple[float, ...], n: int
) -> None:
    ones = by_gene(*[1.0] * len(scores))
    found = effect_agreement(by_gene(*scores), ones, by_gene(*published))
    assert found.n_genes == n and np.isnan(found.spearman)


@given(st.integers(3, 40), st.integers(0, 2**32 - 1))
def test_it_is_spearman_of_the_product_in_any_order(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"g{i}" for i in range(n)]
    score, sign, change = rng.normal(size=n), rng.choice([-1, 1], n), rng.normal(size=n)
    shuffled = rng.permutation(n)
    found = effect_agreement(
        pd.Series(score, names),
        pd.Series(sign, names),
        pd.Series(change, names).iloc[shuffled],
    )
    ranks = stats.rankdata(score * sign), stats.rankdata(change)
    assert found.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1])


def write(folder: Path, *rows: str, name: str = "effects.tsv") -> str:
    text = "\n".join(["type\tgene\tlfc\tother", *rows]) + "\n"
    file = folder / name
    if name.endswith(".gz"):
        file.write_bytes(gzip.compress(text.encode()))
    else:
        file.write_text(text)
    return str(file)


ROWS = ("T\tISG15\t2.5\tx", "T\tNA\tNA\tx", "T\tIFI6\t-1\tx", "B\tISG15\tNA\tx", "B\tMX1\t3\t")


@pytest.mark.parametrize("name", ["effects.tsv", "effects.tsv.gz"])
def test_reads_what_has_a_number(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, *ROWS, name=name)
    known = KnownEffects(file=file, log_fold_change="lfc", label="type")
    effects = known.read()
    assert effects.to_dict("list") == {
        "label": ["T", "T", "B"],
        "gene": ["ISG15", "IFI6", "MX1"],
        "log_fold_change": [2.5, -1.0, 3.0],
    }
    assert known.members(effects) == {"T": ("T",), "B": ("B",)}


def test_labels_are_mapped_and_others_left_out(tmp_path: Path) -> None:
    known = KnownEffects(
        file=write(tmp_path, *ROWS),
        log_fold_change="lfc",
        label="type",
        labels={"T": ("naive T", "memory T")},
    )
    effects = known.read()
    assert set(effects["label"]) == {"T"}
    assert known.members(effects) == {"T": ("naive T", "memory T")}


def test_one_effect_a_gene(tmp_path: Path) -> None:
    known = KnownEffects(file=write(tmp_path, ROWS[0], ROWS[4]), log_fold_change="lfc")
    assert list(known.read()["label"]) == ["all", "all"]


def test_refusals(tmp_path: Path) -> None:
    file = write(tmp_path, *ROWS)
    with pytest.raises(ConfigError, match=r"evaluation\.effects\.file: .*no column 'fold'"):
        KnownEffects(file=file, log_fold_change="fold").read()
    with pytest.raises(ConfigError, match="no such file"):
        KnownEffects(file=str(tmp_path / "none.tsv")).read()
    with pytest.raises(ConfigError, match=r"two effects of 'ISG15'.*effects.label"):
        KnownEffects(file=write(tmp_path, ROWS[0], ROWS[0]), log_fold_change="lfc").read()
    with pytest.raises(ConfigError, match=r"holds more than numbers.*'high'"):
        KnownEffects(file=write(tmp_path, "T\tA\thigh\t"), log_fold_change="lfc").read()
    with pytest.raises(ConfigError, match=r"effects\.labels: .*no effect of 'Tcell'"):
        KnownEffects(
            file=write(tmp_path, *ROWS), log_fold_change="lfc", label="type", labels={"Tcell": ()}
        ).read()
    with pytest.raises(ConfigError, match=r"evaluation\.effects\.label: "):
        KnownEffects(file=file, labels={"T": ("T",)})


# Three labels: 1 pair, 3 pairs, 10 pairs. Gene c has no pair in T1.
RANKINGS = pd.DataFrame(
    [
        ("m/forward", "T1", "a", 1.0),
        ("m/forward", "T1", "b", -8.0),
        ("m/forward", "T1", "c", 0.0),
        ("m/forward", "T2", "a", 5.0),
        ("m/forward", "T2", "b", 4.0),
        ("m/forward", "T2", "c", 2.0),
        ("m/forward", "B", "a", 7.0),
        ("m/forward", "B", "b", 0.0),
        ("m/forward", "B", "c", 0.0),
    ],
    columns=["ranking", "label", "gene", "score"],
)
RANKINGS = pd.concat(
    [RANKINGS, RANKINGS.assign(ranking="m/forward/abs", score=RANKINGS["score"].abs())]
)
TABLE = pd.DataFrame(
    [
        ("T1", "a", 1, 1, 2.0),
        ("T1", "b", 2, 1, 3.0),
        ("T1", "@condition", None, 1, np.nan),
        ("T2", "a", 1, 2, 0.4),
        ("T2", "b", 2, 3, -2.0),
        ("T2", "c", 3, 1, 1.0),
        ("T2", "@condition", None, 3, np.nan),
        ("B", "a", 1, 10, 9.0),
        ("B", "@condition", None, 10, np.nan),
    ],
    columns=["label", "gene", "rank", "n_pairs", "log_fold_change"],
)


def test_labels_weigh_as_their_pairs() -> None:
    pooled = PooledScores.of(RANKINGS, TABLE, ("T1", "T2", "no pairs"))
    assert list(pooled.scores_gr.index) == ["a", "b", "c"]
    np.testing.assert_allclose(pooled.scores_gr["m/forward"], [4.0, 1.0, 1.5])
    # The magnitude of the pooled mean, not the mean of magnitudes (4, 5, 1.5).
    np.testing.assert_allclose(pooled.scores_gr["m/forward/abs"], [4.0, 1.0, 1.5])
    np.testing.assert_allclose(pooled.change_g, [0.8, -0.75, 0.75])
    assert list(pooled.direction_g) == [1, -1, 1]


def test_one_label_is_its_own_table() -> None:
    pooled = PooledScores.of(RANKINGS, TABLE, ("T1",))
    assert list(pooled.scores_gr.index) == ["a", "b"], "genes that no pair has are not scored"
    assert list(pooled.scores_gr["m/forward"]) == [1.0, -8.0]
    assert list(pooled.scores_gr["m/forward/abs"]) == [1.0, 8.0]
    assert list(pooled.change_g) == [2.0, 3.0]


def test_labels_without_pairs() -> None:
    pooled = PooledScores.of(RANKINGS, TABLE, ("NK",))
    assert pooled.scores_gr.empty and pooled.change_g.empty


@given(st.integers(0, 2**32 - 1))
def test_pooling_is_the_mean_over_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_l = rng.integers(1, 6, 3)
    pairs = pd.DataFrame(rng.normal(size=(n_l.sum(), 4)), columns=list("abcd"))
    label = np.repeat(["x", "y", "z"], n_l)
    means = pairs.groupby(label).mean()
    rankings = means.melt(ignore_index=False, var_name="gene", value_name="score")
    rankings = rankings.rename_axis("label").reset_index().assign(ranking="m/forward")
    table = rankings.assign(
        rank=1, n_pairs=rankings["label"].map(dict(zip("xyz", n_l, strict=True)))
    ).assign(log_fold_change=1.0)
    pooled = PooledScores.of(rankings, table, ("x", "z"))
    np.testing.assert_allclose(
        pooled.scores_gr["m/forward"], pairs[label != "y"].mean(), atol=1e-12
    )
    np.testing.assert_allclose(pooled.change_g, 1.0)
