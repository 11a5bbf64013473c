"""Ids as the PolyGene format lays them out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.errors import TokenError
from gradgene.tokens import CLS, EOS, MASK, PAD, Vocabulary
from tests.planted import BIN_EDGES, PHENOTYPES, make_cells


def small() -> Vocabulary:
    """Categories given out of order; `sex` has ids and a type but no slot."""
    return Vocabulary(
        categories={"tissue": ("lung", "brain"), "sex": ("f", "m", "?"), "age": ("old",)},
        phenotypes=("tissue", "age"),
        genes=("TP53", "MYC"),
        bin_edges=(0.5, 1, 2),
    )


def test_layout_by_hand() -> None:
    """[CLS] [EOS] [MASK] [PAD] old f m ? lung brain bin_0 … bin_3."""
    vocabulary = small()
    assert (CLS, EOS, MASK, PAD) == (0, 1, 2, 3)
    assert list(vocabulary.categories) == ["age", "sex", "tissue"]
    assert vocabulary.label_ids("age") == range(4, 5)
    assert vocabulary.label_ids("sex") == range(5, 8)
    assert vocabulary.label_ids("tissue") == range(8, 10)
    assert vocabulary.label_id("tissue", "lung") == 8
    assert vocabulary.label_id("sex", "?") == 7
    assert vocabulary.bin_offset == 10
    assert vocabulary.n_values == 14
    assert [vocabulary.category_type(c) for c in ("age", "sex", "tissue")] == [1, 2, 3]
    assert vocabulary.gene_offset == 4
    assert vocabulary.n_types == 6
    assert [vocabulary.slot(c) for c in ("tissue", "age")] == [1, 2]
    assert vocabulary.gene_index(["MYC", "GAPDH", "TP53"]).tolist() == [1, -1, 0]


def test_layout_of_the_released_tokenizer(shared: Path) -> None:
    folder = shared / "fixtures" / "perturbgene"
    expected = json.loads((folder / "expected_vocab.json").read_text())
    labels = json.loads((folder / "run" / "phenotypic_tokens_map.json").read_text())
    for run, phenotypes in expected["included_phenotypes"].items():
        vocabulary = Vocabulary(
            labels, tuple(phenotypes), tuple(expected["gene_order"]), tuple(expected["bin_edges"])
        )
        tokens = ["[CLS]", "[EOS]", "[MASK]", "[PAD]"]
        for category in vocabulary.categories:
            ids = vocabulary.label_ids(category)
            assert ids.start == len(tokens)
            tokens += vocabulary.categories[category]
            assert ids.stop == len(tokens)
        assert vocabulary.bin_offset == len(tokens)
        tokens += [f"bin_{i}" for i in range(len(expected["bin_edges"]) + 1)]
        assert tokens == expected["flattened_tokens"]
        assert vocabulary.n_values == expected["vocab_size"]
        assert vocabulary.n_types == expected["type_vocab_size"]
        assert list(vocabulary.categories) == expected["phenotypic_types"]
        assert vocabulary.gene_offset == expected["gene_token_type_offset"]
        assert 1 + len(vocabulary.phenotypes) == expected["genes_start_ind"][run]


names = st.text(min_size=1, max_size=4)


@given(
    categories=st.dictionaries(names, st.lists(names, unique=True, max_size=4), max_size=4),
    genes=st.lists(names, unique=True, max_size=5),
    edges=st.lists(st.floats(0, 9), unique=True, min_size=1, max_size=5).map(sorted),
)
def test_ids_are_a_bijection_and_survive_json(
    categories: dict[str, list[str]], genes: list[str], edges: list[float]
) -> None:
    vocabulary = Vocabulary(
        {c: tuple(labels) for c, labels in categories.items()},
        tuple(categories),
        tuple(genes),
        tuple(edges),
    )
    ids = [vocabulary.label_id(c, name) for c, labels in categories.items() for name in labels]
    assert sorted(ids) == list(range(4, vocabulary.bin_offset))
    types = [vocabulary.category_type(c) for c in categories]
    assert sorted(types) == list(range(1, vocabulary.gene_offset))
    assert vocabulary.gene_index(genes).tolist() == list(range(len(genes)))
    again = Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict())))
    assert again == vocabulary
    assert list(again.categories) == list(vocabulary.categories)


def test_of_cells_holds_what_they_hold(tmp_path: Path) -> None:
    cells = make_cells()
    vocabulary = Vocabulary.from_cells(cells, BIN_EDGES)
    assert vocabulary.phenotypes == PHENOTYPES
    assert vocabulary.categories["cell_type"] == ("B cell", "NK cell", "T cell")
    assert vocabulary.categories["disease"] == ("case", "control")
    assert vocabulary.genes == cells.genes
    file = tmp_path / "vocabulary.json"
    file.write_text(json.dumps(vocabulary.to_dict()))
    assert Vocabulary.read(file) == vocabulary


@pytest.mark.parametrize(
    ("edges", "genes", "phenotypes", "message"),
    [
        ((1, 0.5), ("a",), ("x",), "increasing"),
        ((0.5, 0.5), ("a",), ("x",), "distinct"),
        ((), ("a",), ("x",), "bin edges"),
        ((0.5,), ("a", "b", "a"), ("x",), "twice"),
        ((0.5,), ("a",), ("x", "y"), "phenotypes without labels: y"),
    ],
)
def test_nonsense_is_refused(
    edges: tuple[float, ...], genes: tuple[str, ...], phenotypes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(TokenError, match=message):
        Vocabulary({"x": ("label",)}, phenotypes, genes, edges)


def test_unknown_names_are_errors_that_offer_the_closest() -> None:
    vocabulary = small()
    with pytest.raises(TokenError, match=r"'brian' of 'tissue' is not.*one of 'brain', 'lung'"):
        vocabulary.label_id("tissue", "brian")
    for ask in (vocabulary.label_ids, vocabulary.category_type):
        with pytest.raises(TokenError, match="no category 'organ'"):
            ask("organ")
    with pytest.raises(TokenError, match=r"'sex' is not part of the sequence.*'tissue', 'age'"):
        vocabulary.slot("sex")
    with pytest.raises(TokenError, match="lacks genes, bin_edges"):
        Vocabulary.from_dict({"categories": {}, "phenotypes": []})


def test_the_callers_mapping_is_not_shared() -> None:
    categories = {"b": ("x",), "a": ("y",)}
    vocabulary = Vocabulary(categories, ("a",), ("g",), (0.5,))
    categories["c"] = ("z",)
    assert list(vocabulary.categories) == ["a", "b"]
    assert np.array_equal(vocabulary.gene_index([]), [])
