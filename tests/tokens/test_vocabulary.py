"""Ids as the PolyGene format lays them out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.errors import TokenError
from gradgene.tokens import CLS, EOS, MASK, PAD, Bins, Layout, TokenIds, Vocabulary
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
    assert list(vocabulary.label_ids("age")) == [4]
    assert list(vocabulary.label_ids("sex")) == [5, 6, 7]
    assert list(vocabulary.label_ids("tissue")) == [8, 9]
    assert vocabulary.label_id("tissue", "lung") == 8
    assert vocabulary.label_id("sex", "?") == 7
    assert vocabulary.bin_offset == 10
    assert vocabulary.n_values == 14
    assert [vocabulary.category_type(c) for c in ("age", "sex", "tissue")] == [1, 2, 3]
    assert vocabulary.gene_offset == 4
    assert vocabulary.n_types == 6
    assert [vocabulary.slot(c) for c in ("tissue", "age")] == [1, 2]
    assert vocabulary.gene_index(["MYC", "GAPDH", "TP53"]).tolist() == [1, -1, 0]


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


def listed() -> Vocabulary:
    """Ids out of order, one of them in two categories, some without meaning; positions as types."""
    return Vocabulary(
        categories={"sex": ("female", "unknown"), "age": ("20 years", "unknown")},
        phenotypes=("sex", "age"),
        genes=("TP53", "MYC"),
        bin_edges=(0.5, 1),
        layout=Layout(cls=3, mask=1, pad=0, end=6, start=5, text="bracketed", identity="position"),
        ids=TokenIds({"sex": (9, 12), "age": (8, 12)}, first_bin=14, n_values=20),
    )


def test_listed_ids() -> None:
    vocabulary = listed()
    assert (vocabulary.pad_id, vocabulary.mask_id) == (0, 1)
    assert list(vocabulary.label_ids("sex")) == [9, 12]
    assert vocabulary.label_id("age", "unknown") == vocabulary.label_id("sex", "unknown") == 12
    assert (vocabulary.bin_offset, vocabulary.n_values) == (14, 20)
    assert vocabulary.label_index("age", "20 years") == 0


def test_identity_by_position() -> None:
    """[CLS] sex age [START] TP53 MYC [END]."""
    vocabulary = listed()
    assert [vocabulary.category_type(c) for c in ("sex", "age")] == [1, 2]
    assert (vocabulary.n_header, vocabulary.gene_offset, vocabulary.n_types) == (4, 4, 7)


def test_what_is_not_ours_is_kept_and_what_is_ours_is_not_said() -> None:
    ours = small()
    assert set(ours.to_dict()) == {"categories", "phenotypes", "genes", "bin_edges"}
    for vocabulary in (listed(), Vocabulary.from_cells(make_cells(), Bins((0.1,), 7))):
        again = Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict())))
        assert again == vocabulary
        assert again.label_ids(again.phenotypes[0]) == vocabulary.label_ids(again.phenotypes[0])
        assert again.n_values == vocabulary.n_values
    assert vocabulary.n_values == vocabulary.bin_offset + 8


def test_labels_are_found_in_any_spelling_of_their_token() -> None:
    vocabulary = listed()
    for spelling in ("20 years", "20_years"):
        assert vocabulary.label_id("age", spelling) == 8
    tokens = Vocabulary(
        {"age": ("[20_years]",)}, ("age",), ("g",), (0.5,), layout=Layout(text="bracketed")
    )
    assert tokens.label_id("age", "20 years") == tokens.label_id("age", "[20_years]") == 4
    assert tokens.knows("age", "20 years") and not tokens.knows("age", "30 years")
    with pytest.raises(TokenError, match="'30 years' of 'age' is not"):
        tokens.label_id("age", "30 years")


def test_labels_under_the_names_that_cells_have() -> None:
    vocabulary = Vocabulary(
        {"disease": ("normal", "crohn disease"), "sex": ("female", "male")},
        ("disease", "sex"),
        ("g",),
        (0.5,),
        layout=Layout(text="ascii"),
    )
    spelled = vocabulary.spelled_as({"disease": ["Crohn's disease", "flu"], "donor": ["d0"]})
    assert spelled.categories["disease"] == ("normal", "Crohn's disease")
    assert spelled.categories["sex"] == ("female", "male")
    assert spelled.label_id("disease", "crohn disease") == vocabulary.label_id(
        "disease", "Crohn's disease"
    )


def test_new_labels_of_one_token_get_one_id() -> None:
    """By the text of their tokens, as labels that are known are; without a rule all differ."""
    given = {"disease": ["X-1", "X 1", "Normal", "Y"], "stage": ["x-1", "x 1"]}
    vocabulary = Vocabulary(
        {"disease": ("normal",)}, ("disease",), ("g",), (0.5,), layout=Layout(text="ascii")
    )
    grown = vocabulary.grown(given)
    assert grown.categories == {"disease": ("normal", "X-1", "Y"), "stage": ("x-1",)}
    assert grown.label_id("disease", "X 1") == grown.label_id("disease", "X-1")
    assert grown.grown(given) == grown
    plain = Vocabulary({"disease": ("normal",)}, ("disease",), ("g",), (0.5,)).grown(given)
    assert plain.categories["disease"] == ("normal", "X-1", "X 1", "Normal", "Y")


def test_the_id_of_a_missing_label() -> None:
    """What the layout says, else the token of `unknown`, else `[MASK]`."""
    assert [listed().missing_id(c) for c in ("sex", "age")] == [12, 12]
    assert small().missing_id("sex") == MASK
    told = Vocabulary(
        {"sex": ("f", "unknown")}, ("sex",), ("g",), (0.5,), layout=Layout(missing={"sex": 7})
    )
    assert told.missing_id("sex") == 7
    with pytest.raises(TokenError, match="no category 'organ'"):
        small().missing_id("organ")


def test_listed_ids_must_fit() -> None:
    for ids in (
        TokenIds({"x": (4, 5)}, first_bin=6, n_values=9),  # two ids of one label
        TokenIds({"y": (4,)}, first_bin=6, n_values=9),
        TokenIds({"x": (4,)}, first_bin=6, n_values=7),  # no room for bin_1
    ):
        with pytest.raises(TokenError, match="listed ids do not fit"):
            Vocabulary({"x": ("label",)}, ("x",), ("g",), (0.5,), ids=ids)
