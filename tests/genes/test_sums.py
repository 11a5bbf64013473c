"""What sums over groups of pairs say, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gradgene.errors import RankingError
from gradgene.genes import GeneSums


def groups_of(
    donors: list[str | None], labels: list[str | None] | None = None, batch: str | None = None
) -> pd.DataFrame:
    frame = pd.DataFrame({"donor": donors, "batch": batch, "label": labels}, dtype=object)
    return frame.where(frame.notna(), None)


@pytest.fixture
def sums() -> GeneSums:
    """Two labels in two donors, and a third donor without pairs; the last feature is no gene."""
    return GeneSums(
        sums={
            "forward": np.array([[2.0, 6.0, 0, 1], [0, 0, 0, 0], [6.0, 3.0, 0, 1], [1, 1, 0, 1]]),
            "forward/zero": np.array([[0.0, 1, 0, 9], [0, 0, 0, 0], [1, 0, 0, 9], [0, 0, 0, 9]]),
            "present": np.array([[1.0, 1, 0, 1], [0, 0, 0, 0], [3, 1, 0, 3], [1, 1, 0, 1]]),
        },
        n_pairs_g=np.array([1, 0, 3, 1]),
        groups=groups_of(["a", "b", "c", "c"], ["T", "T", "B", "T"]),
        main="forward",
        n_genes=3,
        depth_g=np.array([1.0, 0.0, 2.0, 3.0]),
        depth_square_g=np.array([1.0, 0.0, 4.0, 9.0]),
        within_ss=np.ones(4),
        within_dof=2,
        null=np.zeros((5, 4)),
    )


def test_means(sums: GeneSums) -> None:
    assert sums.n_pairs == 5
    assert sums.mean("forward").tolist() == [9 / 5, 2.0, 0.0, 3 / 5]
    np.testing.assert_array_equal(sums.mean_present("forward"), [9 / 5, 10 / 3, np.nan, 3 / 5])


def test_means_of_donors(sums: GeneSums) -> None:
    """Groups of one donor are taken together, and a donor without pairs is none."""
    assert sums.donors == ("a", "c") and sums.n_donors == 2
    assert sums.n_pairs_d.tolist() == [1, 4]
    assert sums.donor_means("forward").tolist() == [[2.0, 6.0, 0.0, 1.0], [7 / 4, 1.0, 0.0, 0.5]]


def test_unknown_donors_are_no_donor(sums: GeneSums) -> None:
    unknown = GeneSums(sums.sums, sums.n_pairs_g, groups_of([None] * 4), "forward")
    assert unknown.donors == () and unknown.n_donors == 0 and unknown.n_pairs == 5
    assert unknown.donor_means("forward").shape == (0, 4)
    some = GeneSums(sums.sums, sums.n_pairs_g, groups_of(["a", "a", None, None]), "forward")
    assert some.donors == ("a",)
    assert some.donor_means("forward").tolist() == [[2.0, 6.0, 0.0, 1.0]]
    assert some.mean("forward").tolist() == sums.mean("forward").tolist()


def test_share_of_zeros_is_of_genes(sums: GeneSums) -> None:
    """Two zeros among 5 + 3 scores; the phenotype slot counts in neither."""
    assert sums.zero_share("forward") == 2 / 8
    nothing = GeneSums(
        {k: v * 0 for k, v in sums.sums.items()}, sums.n_pairs_g, sums.groups, "forward"
    )
    assert np.isnan(nothing.zero_share("forward"))


def test_one_label(sums: GeneSums) -> None:
    assert sums.labels == ("B", "T")
    t_cells = sums.of_label("T")
    assert t_cells.n_pairs == 2 and t_cells.donors == ("a", "c")
    assert t_cells.mean("forward").tolist() == [1.5, 3.5, 0.0, 1.0]
    assert t_cells.depth_g is not None and t_cells.depth_g.tolist() == [1.0, 0.0, 3.0]
    assert t_cells.null is None and t_cells.within_ss is None and t_cells.within_dof == 0
    totals = [sums.of_label(label).total("forward") for label in sums.labels]
    np.testing.assert_allclose(sum(totals), sums.total("forward"))


def test_what_is_not_there_is_refused(sums: GeneSums) -> None:
    with pytest.raises(RankingError, match=r"ranking.by: no pair of label 'NK'.*'B', 'T'"):
        sums.of_label("NK")
    with pytest.raises(RankingError, match=r"'forwards' was not accumulated.*'forward'"):
        sums.mean("forwards")
    with pytest.raises(RankingError, match="expected 2; found 1"):
        GeneSums({}, np.array([1]), groups_of(["a", "b"]), "forward")
