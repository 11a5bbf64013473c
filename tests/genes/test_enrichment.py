"""Over-representation against counting by hand, scipy, and what the background does to it."""

from __future__ import annotations

import socket
import sys
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gradgene.errors import ConfigError, RankingError
from gradgene.genes import (
    ENRICHMENT_COLUMNS,
    GeneSets,
    GeneTable,
    enrich,
    require_gseapy,
    scored_genes,
)
from gradgene.genes.table import COLUMNS


def ranked(genes: list[str], n_pairs: int = 5) -> GeneTable:
    """A table of these genes, best first, and a phenotype."""
    frame = pd.DataFrame(dict.fromkeys(COLUMNS), index=range(len(genes) + 1))
    frame["gene"] = [*genes, "@disease"]
    frame["rank"] = pd.array([*range(1, len(genes) + 1), None], dtype="Int64")
    frame["score"] = np.linspace(1, 0, len(genes) + 1)
    frame["n_pairs"] = n_pairs
    return GeneTable(frame)


def named(**sets: list[str]) -> GeneSets:
    return GeneSets(
        {name: frozenset(genes) for name, genes in sets.items()}, dict.fromkeys(sets, "own")
    )


GENES = [f"GENE{i:02d}" for i in range(20)]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("enrichment must not reach for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


class TestByHand:
    def test_three_of_four_among_the_best_five_of_twenty(self) -> None:
        sets = named(PATH=[GENES[0], GENES[2], GENES[4], GENES[10]])
        row = enrich(ranked(GENES), sets, top_k=5, background=GENES).iloc[0]
        p = (comb(4, 3) * comb(16, 2) + comb(4, 4) * comb(16, 1)) / comb(20, 5)
        assert row["p"] == pytest.approx(p, rel=1e-12)
        assert row["p"] == pytest.approx(stats.hypergeom.sf(2, 20, 4, 5), rel=1e-12)
        table = [[3, 2], [1, 14]]
        assert row["p"] == pytest.approx(stats.fisher_exact(table, "greater").pvalue, rel=1e-12)
        assert row["odds_ratio"] == pytest.approx(3.5 * 14.5 / (2.5 * 1.5), rel=1e-12)
        assert (row["n_set"], row["n_overlap"], row["collection"]) == (4, 3, "own")
        assert row["genes"] == "GENE00;GENE02;GENE04"

    def test_a_set_without_overlap_has_p_one_and_is_adjusted_for(self) -> None:
        sets = named(BEST=GENES[:4], WORST=GENES[16:])
        found = enrich(ranked(GENES), sets, top_k=5, background=GENES)
        assert list(found["gene_set"]) == ["BEST", "WORST"]
        best, worst = found.iloc[0], found.iloc[1]
        assert (worst["p"], worst["n_overlap"], worst["genes"]) == (1.0, 0, "")
        assert worst["odds_ratio"] == pytest.approx(0.5 * 11.5 / (5.5 * 4.5), rel=1e-12)
        assert best["p_adjusted"] == pytest.approx(2 * best["p"], rel=1e-12)

    def test_nothing_overlaps(self) -> None:
        found = enrich(ranked(GENES), named(A=GENES[18:]), top_k=3, background=GENES)
        assert found["p"].tolist() == [1.0]

    def test_a_p_too_small_for_a_float_is_zero_and_no_warning(self) -> None:
        genes = [f"G{i}" for i in range(6000)]
        found = enrich(ranked(genes), named(A=genes[:600]), top_k=600, background=genes)
        assert found["p"][0] == 0.0


class TestBackground:
    def test_it_decides_the_p(self) -> None:
        """Two of the three best are in the set: striking among 1000 genes, not among 6."""
        genes = [f"G{i}" for i in range(1000)]
        sets = named(PATH=["G0", "G1", "G4"])
        wide = enrich(ranked(genes), sets, top_k=3, background=genes)["p"][0]
        narrow = enrich(ranked(genes[:6]), sets, top_k=3, background=genes[:6])["p"][0]
        assert wide == pytest.approx(stats.hypergeom.sf(1, 1000, 3, 3), rel=1e-12)
        assert narrow == pytest.approx(0.5, rel=1e-12)
        assert wide < 1e-4

    def test_members_outside_of_it_are_dropped_before_counting(self) -> None:
        inside, outside = GENES[:3], [f"UNSEEN{i}" for i in range(50)]
        found = enrich(ranked(GENES), named(PATH=inside + outside), top_k=5, background=GENES).iloc[
            0
        ]
        assert found["n_set"] == 3
        assert found["p"] == pytest.approx(stats.hypergeom.sf(2, 20, 3, 5), rel=1e-12)
        assert found["p"] != pytest.approx(stats.hypergeom.sf(2, 70, 53, 5), rel=0.1)

    def test_sets_outside_of_it_are_not_adjusted_for(self) -> None:
        sets = named(BEST=GENES[:4], NOWHERE=["X", "Y"])
        found = enrich(ranked(GENES), sets, top_k=5, background=GENES)
        assert list(found["gene_set"]) == ["BEST"]
        assert found["p_adjusted"][0] == found["p"][0]

    def test_sets_below_the_least_size_are_left_out(self) -> None:
        sets = named(BEST=GENES[:4], SMALL=GENES[:2])
        found = enrich(ranked(GENES), sets, top_k=5, background=GENES, min_genes=3)
        assert list(found["gene_set"]) == ["BEST"]

    def test_scored_genes_are_the_ranked_ones_that_some_pair_expresses(self) -> None:
        assert scored_genes(ranked(GENES)) == GENES
        assert scored_genes(ranked(GENES, n_pairs=0)) == []


@given(st.integers(0, 2**31 - 1), st.integers(1, 59))
def test_equals_scipy_on_random_sets(seed: int, top_k: int) -> None:
    rng = np.random.default_rng(seed)
    genes = [f"G{i}" for i in range(60)]
    sets = {f"S{j}": list(rng.choice(genes, rng.integers(1, 40), False)) for j in range(8)}
    found = enrich(ranked(genes), named(**sets), top_k=top_k, background=genes)
    assert list(found.columns) == list(ENRICHMENT_COLUMNS)
    assert (np.diff(found["p"]) >= 0).all()
    for row in found.to_dict("records"):
        x = len(set(sets[row["gene_set"]]) & set(genes[:top_k]))
        p = stats.hypergeom.sf(x - 1, 60, row["n_set"], top_k)
        np.testing.assert_allclose(row["p"], p, rtol=1e-12)
    expected = stats.false_discovery_control(found["p"])
    np.testing.assert_allclose(found["p_adjusted"], expected, rtol=1e-12)


class TestNames:
    """gseapy alone would put the genes in capitals, or read them as Entrez ids."""

    def test_case_is_kept(self) -> None:
        mouse = ["Isg15", "Mx1", "Ifi6", "Actb", "Gapdh", "Cd3d"]
        sets = named(HUMAN=["ISG15", "MX1"], MOUSE=["Isg15", "Mx1"])
        found = enrich(ranked(mouse), sets, top_k=2, background=mouse)
        assert list(found["gene_set"]) == ["MOUSE"]

    def test_open_reading_frames(self) -> None:
        """In capitals C19orf66 would be lost from a set most of whose names are capitals."""
        genes = ["C19orf66", "ISG15", *GENES]
        sets = named(A=["C19orf66", *GENES[:10]])
        found = enrich(ranked(genes), sets, top_k=2, background=genes).iloc[0]
        assert (found["n_overlap"], found["genes"]) == (1, "C19orf66")
        assert found["p"] == pytest.approx(1 - comb(11, 2) / comb(22, 2), rel=1e-12)

    def test_numerals(self) -> None:
        genes = [str(i) for i in range(100, 120)]
        found = enrich(ranked(genes), named(A=genes[:3]), top_k=3, background=genes)
        assert found["p"][0] == pytest.approx(1 / comb(20, 3), rel=1e-12)


class TestRefusals:
    @pytest.mark.parametrize("top_k", [0, 20, 30])
    def test_top_k_must_be_a_part_of_the_background(self, top_k: int) -> None:
        with pytest.raises(RankingError, match="from 1 to 19"):
            enrich(ranked(GENES), named(A=GENES[:3]), top_k=top_k, background=GENES)

    def test_a_best_gene_outside_of_the_background(self) -> None:
        with pytest.raises(RankingError, match="GENE00, GENE01"):
            enrich(ranked(GENES), named(A=GENES[:3]), top_k=5, background=GENES[2:])

    def test_sets_of_other_names(self) -> None:
        with pytest.raises(RankingError, match=r"names such as GENE00.*found Gene00"):
            enrich(ranked(GENES), named(A=["Gene00"]), top_k=5, background=GENES)

    def test_without_gseapy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "gseapy", None)
        with pytest.raises(ConfigError, match=r"pip install 'gradgene\[enrichment\]'"):
            enrich(ranked(GENES), named(A=GENES[:3]), top_k=5, background=GENES)
        with pytest.raises(ConfigError, match="gseapy"):
            require_gseapy()


def test_a_planted_set_comes_first() -> None:
    rng = np.random.default_rng(0)
    genes = [f"G{i}" for i in range(2000)]
    sets = {f"S{j}": list(rng.choice(genes[100:], 40, False)) for j in range(50)}
    sets["PLANTED"] = [*genes[5:15], *rng.choice(genes[100:], 30, False)]
    found = enrich(ranked(genes), named(**sets), top_k=30, background=genes)
    assert found["gene_set"][0] == "PLANTED"
    assert found["p_adjusted"][0] < 1e-6


def test_interferon_genes_are_hallmarks_of_the_interferon_response(shared: Path) -> None:
    reference = shared / "reference"
    interferon = (reference / "kang2018_isg_core.txt").read_text().split()
    housekeeping = (reference / "tirosh_housekeeping_genes.txt").read_text().split()
    sets = GeneSets.read(reference / "msigdb_hallmark.gmt")
    others = sorted(sets.genes - set(interferon)) + housekeeping
    table = ranked(list(dict.fromkeys([*interferon, *others])))
    found = enrich(table, sets, top_k=len(interferon), background=scored_genes(table))
    assert found["gene_set"][0] == "HALLMARK_INTERFERON_ALPHA_RESPONSE"
    assert found["collection"][0] == "msigdb_hallmark"
    assert found["p_adjusted"][0] < 1e-20
    assert len(found) == 50
