"""Known genes among the best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradgene.errors import ConfigError
from gradgene.evaluation import read_known_genes, recovered
from gradgene.pruning import GeneRanking

RANKING = GeneRanking("x", ("a", "b", "c", "d", "e"), np.array([1.0, 5.0, 3.0, 4.0, 2.0]))


@pytest.mark.parametrize(
    ("known", "top_k", "expected"),
    [
        (("b", "d"), 2, 2),
        (("b", "c"), 2, 1),
        (("a", "e", "elsewhere"), 3, 0),
        (("a", "e", "elsewhere"), 5, 2),
        (("a", "b"), 100, 2),
        (("a", "b"), 0, 0),
    ],
)
def test_counts(known: tuple[str, ...], top_k: int, expected: int) -> None:
    assert recovered(RANKING, frozenset(known), top_k) == expected


def test_gene_list(tmp_path: Path) -> None:
    file = tmp_path / "known.txt"
    file.write_text("ISG15\n\n  IFI6 \nISG15\n")
    assert read_known_genes(str(file)) == frozenset({"ISG15", "IFI6"})


def test_missing_and_empty_lists(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluation.known_genes: no such gene list.*none\.txt"):
        read_known_genes(str(tmp_path / "none.txt"))
    with pytest.raises(ConfigError, match="no such gene list"):
        read_known_genes(str(tmp_path))
    file = tmp_path / "empty.txt"
    file.write_text(" \n\n")
    with pytest.raises(ConfigError, match=r"empty\.txt names no gene"):
        read_known_genes(str(file))
    file.write_bytes(b"\xff\xfe\x00ISG15")
    with pytest.raises(ConfigError, match=r"cannot read .*empty\.txt"):
        read_known_genes(str(file))
