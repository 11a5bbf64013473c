"""Gene tables as files come back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gradgene.errors import RankingError
from gradgene.genes import GeneTable
from tests.genes.toys import table_of

SUFFIXES = [".csv", ".parquet"]


def table() -> GeneTable:
    """Numbers without a short decimal, names that look like nulls, nulls that are None."""
    frame = table_of([1 / 3, -1e-17, 0.1 + 0.2], ["NAN", "nan", "g,1"]).to_pandas()
    frame["flags"] = ["depth;batch", None, None, None, None]
    frame["seed"] = 7
    frame["model"] = None
    return GeneTable(frame)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_come_back_the_same(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"genes{suffix}"
    table().write(file)
    back = GeneTable.read(str(file))
    pd.testing.assert_frame_equal(back.frame, table().frame, check_exact=True)
    assert back.top() == ["NAN", "g,1", "nan"]
    for column in ("ensembl_id", "direction", "flags", "model"):
        assert back.frame[column].iloc[-1] is None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_without_a_seed(tmp_path: Path, suffix: str) -> None:
    made = GeneTable(table().frame.assign(seed=None))
    made.write(tmp_path / f"genes{suffix}")
    back = GeneTable.read(tmp_path / f"genes{suffix}")
    pd.testing.assert_frame_equal(back.frame, made.frame)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_more_columns_are_kept(tmp_path: Path, suffix: str) -> None:
    made = GeneTable(table().frame.assign(category="cell_type", label="NA", weight=0.5))
    made.write(tmp_path / f"genes{suffix}")
    back = GeneTable.read(tmp_path / f"genes{suffix}")
    pd.testing.assert_frame_equal(back.frame, made.frame)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    for name in ("genes.tsv", "genes"):
        with pytest.raises(RankingError, match=r"expected \.csv or \.parquet"):
            table().write(tmp_path / name)
        with pytest.raises(RankingError, match=r"expected \.csv or \.parquet"):
            GeneTable.read(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RankingError, match="no such file"):
        GeneTable.read(tmp_path / "genes.csv")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"genes{suffix}"
    file.write_bytes(b"" if suffix == ".csv" else b"gene,score\na,1\n")
    with pytest.raises(RankingError, match="cannot be read as a gene table"):
        GeneTable.read(file)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.drop(columns=["score", "p"]), "lacks score, p"),
        (lambda frame: frame.assign(score="high"), "the column 'score' holds"),
        (lambda frame: frame.assign(n_pairs=1.5), "the column 'n_pairs' holds"),
        (lambda frame: frame.assign(outlier="often"), "the column 'outlier' holds"),
        (lambda frame: frame.assign(seed="first"), "the column 'seed' holds"),
        (lambda frame: frame.assign(gene="a"), "gene a occurs more than once"),
        (lambda frame: frame.assign(rank=[1, 1, 2, None, None]), "rank 1 occurs more than once"),
    ],
)
def test_what_is_not_as_it_should_be_is_refused(
    tmp_path: Path, suffix: str, change: object, said: str
) -> None:
    assert callable(change)
    wrong = change(table().to_pandas())
    file = tmp_path / f"genes{suffix}"
    if suffix == ".csv":
        wrong.to_csv(file, index=False)
    else:
        wrong.to_parquet(file)
    with pytest.raises(RankingError, match=said) as caught:
        GeneTable.read(file)
    assert str(file) in str(caught.value)


def test_numbers_of_a_csv_are_read_to_the_last_bit(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=200) * 10.0 ** np.arange(-100, 100)
    made = table_of(scores.tolist())
    made.write(tmp_path / "genes.csv")
    back = GeneTable.read(tmp_path / "genes.csv")
    assert (back.frame["score"].to_numpy() == made.frame["score"].to_numpy()).all()
