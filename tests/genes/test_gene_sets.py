"""Gene sets of GMT files and of marker tables."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.errors import ConfigError
from gradgene.genes import GeneSets

GMT = "INTERFERON\thttp://x\tISG15\tMX1\tIFI6\n\nSOLO\t\tACTB\t\n"

words = st.text("ABCxyz019-_. ", min_size=1, max_size=8).map(str.strip).filter(bool)


def gmt(folder: Path, text: str = GMT, name: str = "hallmark.gmt") -> Path:
    file = folder / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return file


class TestGmt:
    @pytest.mark.parametrize("name", ["hallmark.gmt", "hallmark.gmt.gz", "c2.v2023.2.gmt.gz"])
    def test_read(self, name: str, tmp_path: Path) -> None:
        """Blank lines, empty descriptions and trailing tabs are common and mean nothing."""
        found = GeneSets.read(gmt(tmp_path, name=name))
        assert found.sets == {
            "INTERFERON": frozenset({"ISG15", "MX1", "IFI6"}),
            "SOLO": frozenset({"ACTB"}),
        }
        stem = name.removesuffix(".gz").removesuffix(".gmt")
        assert found.collections == {"INTERFERON": stem, "SOLO": stem}
        assert len(found) == 2
        assert found.genes == {"ISG15", "MX1", "IFI6", "ACTB"}

    def test_several_files_are_collections(self, tmp_path: Path) -> None:
        files = gmt(tmp_path), gmt(tmp_path, "OTHER\t-\tA\n", "own.gmt")
        assert GeneSets.read(*files).collections == {
            "INTERFERON": "hallmark",
            "SOLO": "hallmark",
            "OTHER": "own",
        }
        assert len(GeneSets.read()) == 0

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("A\t-\tG1\nB\tG2\n", "line 2, is no gene set"),
            ("A\t-\tG1\n\nB\t-\t\t\n", "line 3, is no gene set"),
            ("\t-\tG1\n", "line 1, is no gene set"),
            ("A\t-\tG1\nA\t-\tG2\n", "line 2: the name 'A' is used already"),
            ("\n\n", "holds no gene set"),
        ],
    )
    def test_a_wrong_line_is_named(self, text: str, problem: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=problem) as caught:
            GeneSets.read(gmt(tmp_path, text))
        assert caught.value.where == "evaluation.gene_sets"

    def test_a_name_in_two_files_is_refused(self, tmp_path: Path) -> None:
        second = gmt(tmp_path, "SOLO\t-\tACTG1\n", "own.gmt")
        with pytest.raises(ConfigError, match=r"own\.gmt, line 1: .*'SOLO'.*in hallmark"):
            GeneSets.read(gmt(tmp_path), second)

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no such file"):
            GeneSets.read(tmp_path / "nowhere.gmt")
        cut = tmp_path / "cut.gmt.gz"
        cut.write_bytes(gzip.compress(GMT.encode())[:-12])
        plain = tmp_path / "plain.gmt.gz"
        plain.write_text(GMT)
        binary = tmp_path / "binary.gmt"
        binary.write_bytes(b"\xff\xfe\x00")
        for file in (cut, plain, binary):
            with pytest.raises(ConfigError, match="cannot read"):
                GeneSets.read(file)

    @given(sets=st.dictionaries(words, st.frozensets(words, min_size=1), min_size=1))
    def test_written_sets_are_read_again(
        self, sets: dict[str, frozenset[str]], tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        before = GeneSets(sets, dict.fromkeys(sets, "own"))
        file = tmp_path_factory.mktemp("sets") / "own.gmt"
        before.write(file)
        assert GeneSets.read(file) == before


def test_within_keeps_what_is_known_and_drops_empty_sets(tmp_path: Path) -> None:
    found = GeneSets.read(gmt(tmp_path)).within(["MX1", "ISG15", "GAPDH"])
    assert found.sets == {"INTERFERON": frozenset({"MX1", "ISG15"})}
    assert found.collections == {"INTERFERON": "hallmark"}


def test_a_set_without_collection_is_refused() -> None:
    with pytest.raises(ConfigError, match="collection"):
        GeneSets({"A": frozenset({"G"})}, {})


class TestTable:
    @pytest.mark.parametrize("name", ["panglao.tsv", "panglao.tsv.gz"])
    def test_a_row_a_gene(self, name: str, tmp_path: Path) -> None:
        file = tmp_path / name
        rows = ["cell type\torgan\tgene", "T\tBlood\tCD3D", "B\tBlood\tMS4A1", "T\tBlood\tCD2"]
        rows += ["\tBlood\tNOBODY", "NK\tBlood\t"]
        text = "\n".join(rows).encode()
        file.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        found = GeneSets.from_table(file, "cell type", "gene")
        assert found.sets == {"T": frozenset({"CD3D", "CD2"}), "B": frozenset({"MS4A1"})}
        assert set(found.collections.values()) == {"panglao"}

    def test_a_row_a_list_and_several_columns(self, tmp_path: Path) -> None:
        file = tmp_path / "cellmarker.csv"
        file.write_text('Tissue,CT,Gene\nBlood,T,"CD3D, CD2,"\nSkin,T,CD3E\n')
        found = GeneSets.from_table(file, ["Tissue", "CT"], "Gene", separator=",")
        assert found.sets == {
            "Blood: T": frozenset({"CD3D", "CD2"}),
            "Skin: T": frozenset({"CD3E"}),
        }

    @pytest.mark.parametrize(
        ("text", "problem"),
        [("set,genes\nA,B\n", "no column 'gene'"), ("set,gene\nA,\n", "names no gene")],
    )
    def test_wrong_tables(self, text: str, problem: str, tmp_path: Path) -> None:
        file = tmp_path / "own.csv"
        file.write_text(text)
        with pytest.raises(ConfigError, match=problem):
            GeneSets.from_table(file, "set", "gene")


@pytest.mark.parametrize(
    ("name", "n_sets"), [("msigdb_hallmark.gmt", 50), ("msigdb_c2_reactome_v2023.2.gmt.gz", 1692)]
)
def test_published_files(name: str, n_sets: int, shared: Path) -> None:
    assert len(GeneSets.read(shared / "reference" / name)) == n_sets


@pytest.mark.parametrize(
    ("name", "settings", "cells", "gene"),
    [
        (
            "panglaodb_markers_27_Mar_2020.tsv.gz",
            {"set_column": "cell type", "gene_column": "official gene symbol"},
            "T cells",
            "CD3D",
        ),
        (
            "cellmarker2_human.csv.gz",
            {"set_column": ["Tissue", "CT"], "gene_column": "Gene", "separator": ","},
            "Adipose tissue: Adipocyte",
            "PLIN1",
        ),
    ],
)
def test_published_marker_tables(
    name: str, settings: dict[str, Any], cells: str, gene: str, shared: Path
) -> None:
    found = GeneSets.from_table(shared / "reference" / name, **settings)
    assert gene in found.sets[cells]
    assert not any("," in g for g in found.genes)
