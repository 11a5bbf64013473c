"""Genes of several files become one list, by Ensembl id or by name, and nothing is guessed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.cells.joining import FileGenes, file_genes, join_genes, strip_version
from gradgene.errors import CellsError


def ensembl(i: int, version: int | None = None) -> str:
    return f"ENSG{i:011d}" + ("" if version is None else f".{version}")


def genes(where: str, index: list[str], **columns: list[str | None]) -> FileGenes:
    return file_genes(pd.DataFrame(columns, index=index), None, where)


@pytest.mark.parametrize(
    ("gene", "plain"),
    [
        ("ENSG00000000003.15", "ENSG00000000003"),
        ("ENSG00000000003", "ENSG00000000003"),
        ("ENSMUSG00000051951.6", "ENSMUSG00000051951"),
        ("ENSG00000182378.15_PAR_Y", "ENSG00000182378_PAR_Y"),
        ("RP11-34P13.7", "RP11-34P13.7"),  # a symbol with a dot
        ("AC004556.3", "AC004556.3"),
        ("ENSA.2", "ENSA.2"),  # the gene endosulfine alpha
        ("ENSG00000000003.15.1", "ENSG00000000003.15.1"),
    ],
)
def test_versions_are_stripped_from_ensembl_ids_alone(gene: str, plain: str) -> None:
    assert strip_version(gene) == plain


def test_names_ids_and_symbols_of_a_file() -> None:
    ids = [ensembl(1, 4), ensembl(2, 1)]
    by_id = genes("f", ids, feature_name=["A", "B"])
    assert by_id.names == by_id.ensembl_ids == (ensembl(1), ensembl(2))
    assert by_id.symbols == ("A", "B")
    var = pd.DataFrame({"feature_name": ["A", "B"]}, index=ids)
    named = file_genes(var, "feature_name", "f")
    assert (named.names, named.ensembl_ids) == (("A", "B"), (ensembl(1), ensembl(2)))
    symbols = genes("f", ["A", "B"], gene_ids=[ensembl(1, 2), None])
    assert (symbols.names, symbols.ensembl_ids) == (("A", "B"), (ensembl(1), ""))


def test_duplicates_are_refused_by_name() -> None:
    with pytest.raises(CellsError, match=r"1 gene names occur more than once: A; .*found in f\.h5"):
        genes("f.h5ad", ["A", "B", "A"])
    with pytest.raises(CellsError, match=f"more than once: {ensembl(1)}.*without the version"):
        genes("f.h5ad", [ensembl(1, 1), ensembl(2), ensembl(1, 2)])
    repeated = genes("f.h5ad", ["A", "B"], ensembl_id=[ensembl(1, 1), ensembl(1, 2)])
    assert join_genes([repeated]).genes == ("A", "B")  # alone it needs no ids
    with pytest.raises(CellsError, match="1 Ensembl ids occur more than once") as error:
        join_genes([repeated, genes("g.h5ad", ["A"], ensembl_id=[ensembl(1)])])
    assert str(error.value).startswith("data.gene_key: ")
    assert "f.h5ad" in str(error.value)


def test_the_two_copies_of_a_pseudoautosomal_gene_are_two() -> None:
    joined = join_genes([genes("f", [ensembl(1, 3), f"{ensembl(1, 3)}_PAR_Y"])])
    assert joined.genes == (ensembl(1), f"{ensembl(1)}_PAR_Y")


def test_by_id_where_every_file_has_ids() -> None:
    """Symbols of one gene may differ between annotations; its first one stays."""
    old = genes("old", ["MLL", "A"], ensembl_id=[ensembl(1, 1), ensembl(2, 1)])
    new = genes("new", ["A", "B", "KMT2A"], ensembl_id=[ensembl(2, 9), ensembl(3), ensembl(1, 9)])
    joined = join_genes([old, new])
    assert joined.genes == ("MLL", "A", "B")
    assert joined.ensembl_ids == (ensembl(1), ensembl(2), ensembl(3))
    assert [c.tolist() for c in joined.columns] == [[0, 1], [1, 2, 0]]
    assert joined.notes == (
        "1 of 2 files lack genes that others have (up to 1 of 3); these count as zero in them",
    )


def test_one_symbol_for_two_ids_is_two_genes() -> None:
    joined = join_genes(
        [genes("a", ["X"], ensembl_id=[ensembl(1)]), genes("b", ["X"], ensembl_id=[ensembl(2)])]
    )
    assert joined.genes == ("X", ensembl(2))
    assert any("1 genes are called by their Ensembl id" in note for note in joined.notes)


def test_by_name_where_no_file_is_named_by_ids() -> None:
    joined = join_genes(
        [genes("a", ["A", "B"]), genes("b", ["C", "A"], ensembl_id=["", ensembl(1)])]
    )
    assert joined.genes == ("A", "B", "C")
    assert joined.ensembl_ids == (ensembl(1), "", "")
    assert [c.tolist() for c in joined.columns] == [[0, 1], [2, 0]]


@pytest.mark.parametrize("who", ["names", "ids"])
def test_symbols_get_their_ids_from_the_file_that_has_both(who: str) -> None:
    plain = genes("plain", ["B", "Z", "A"])
    if who == "ids":
        both = [genes("both", [ensembl(1), ensembl(2)], feature_name=["A", "B"])]
    else:
        both = [
            genes("both", ["A", "B"], ensembl_id=[ensembl(1), ensembl(2)]),
            genes("bare", [ensembl(2), ensembl(1)]),
        ]
    joined = join_genes([*both, plain])
    assert joined.genes == (ensembl(1), ensembl(2), "Z")
    assert joined.ensembl_ids == (ensembl(1), ensembl(2), "")
    assert joined.columns[-1].tolist() == [1, 2, 0]


def test_files_that_cannot_be_joined_are_named() -> None:
    with pytest.raises(CellsError) as error:
        join_genes([genes("s.h5ad", ["A", "B"]), genes("e.h5ad", [ensembl(1), ensembl(2)])])
    message = str(error.value)
    assert "s.h5ad names genes by symbol and e.h5ad by Ensembl id" in message
    assert message.startswith("data.path: ") and "feature_name" in message


subset = st.lists(st.integers(1, 12), unique=True, min_size=1)


@given(st.lists(subset, min_size=1, max_size=4), st.booleans())
def test_every_gene_keeps_its_column(files: list[list[int]], by_id: bool) -> None:
    name = ensembl if by_id else (lambda i, version=None: f"G{i}")
    read = [genes(str(k), [name(i, k) for i in mine]) for k, mine in enumerate(files)]
    joined = join_genes(read)
    assert set(joined.genes) == {name(i) for mine in files for i in mine}
    assert len(set(joined.genes)) == len(joined.genes) == len(joined.ensembl_ids)
    for columns, mine in zip(joined.columns, files, strict=True):
        assert [joined.genes[c] for c in columns] == [name(i) for i in mine]
        assert np.unique(columns).size == len(mine)


def test_a_gene_that_lacks_its_id_in_one_file_is_still_one_gene() -> None:
    both = genes("a", ["A", "B", "C"], gene_ids=[ensembl(1), ensembl(2), ensembl(3)])
    lacks = genes("b", ["C", "B", "A"], gene_ids=[None, ensembl(2), ensembl(1)])
    joined = join_genes([both, lacks])
    assert joined.genes == ("A", "B", "C")
    assert joined.ensembl_ids == (ensembl(1), ensembl(2), ensembl(3))
    assert joined.columns[1].tolist() == [2, 1, 0]


def test_an_id_is_not_given_to_two_genes_of_a_file() -> None:
    first = genes("a", ["A", "B", "C"], gene_ids=[ensembl(1), ensembl(2), ensembl(3)])
    moved = genes("b", ["A", "B", "other"], gene_ids=[ensembl(1), ensembl(2), ensembl(3)])
    lacks = genes("c", ["A", "new", "C"], gene_ids=[ensembl(1), ensembl(3), None])
    assert join_genes([moved, lacks]).genes == ("A", "B", "other", "C")
    assert len(set(join_genes([first, moved]).genes)) == 3
