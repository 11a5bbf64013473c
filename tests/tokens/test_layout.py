"""Texts of labels as the published formats write them, and layouts as plain types."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradgene.errors import TokenError
from gradgene.tokens import CLS, EOS, MASK, PAD, Layout, TokenIds


@pytest.mark.parametrize(
    ("text", "category", "label", "token"),
    [
        ("plain", "disease", "Alzheimer disease", "Alzheimer disease"),
        ("bracketed", "disease", "Alzheimer disease", "[Alzheimer_disease]"),
        ("bracketed", "cell_type", "CD4-positive, T cell", "[CD4-positive,_T_cell]"),
        ("bracketed", "sex", "unknown", "[unknown]"),
        ("ascii", "disease", "Alzheimer disease", "[alzheimer_disease]"),
        ("ascii", "disease", "Crohn's disease", "[crohn_disease]"),
        ("ascii", "disease", "Sjögren's  syndrome (primary)", "[sjogren_syndrome_primary]"),
        ("ascii", "assay", "10x 3' v3", "[10x_3_v3]"),
        ("ascii", "cell_type", "[L6b_neuron]", "[l6b_neuron]"),
        ("ascii", "sex", "unknown", "[unknown]"),
        ("ascii_by_category", "sex", "unknown", "[unknown_sex]"),
        ("ascii_by_category", "sex", "unknown sex", "[unknown_sex]"),
        ("ascii_by_category", "sex", "Unknown", "[unknown]"),
        ("ascii_by_category", "development_stage", "unknown", "[unknown_development_stage]"),
    ],
)
def test_texts_of_labels(text: str, category: str, label: str, token: str) -> None:
    assert Layout(text=text).token(category, label) == token  # type: ignore[arg-type]


@given(label=st.text(max_size=20))
def test_ascii_texts_are_their_own_texts(label: str) -> None:
    layout = Layout(text="ascii")
    once = layout.token("disease", label)
    assert layout.token("disease", once) == once
    assert once.isascii()


def test_our_own_format_is_the_default_and_says_nothing() -> None:
    ours = Layout()
    assert (ours.cls, ours.end, ours.mask, ours.pad, ours.start) == (CLS, EOS, MASK, PAD, None)
    assert ours.to_dict() == {}
    assert Layout.from_dict({}) == ours


def test_a_layout_survives_json() -> None:
    other = Layout(
        cls=3,
        end=None,
        text="ascii",
        missing={"sex": 7},
        genes="all",
        identity="position",
        absent="missing",
        max_length=100,
    )
    again = Layout.from_dict(json.loads(json.dumps(other.to_dict())))
    assert again == other
    assert again.end is None


def test_what_is_no_layout() -> None:
    with pytest.raises(TokenError, match=r"genes of the layout.*one of expressed, stored, all"):
        Layout(genes="some")  # type: ignore[arg-type]
    with pytest.raises(TokenError, match="unknown parameters: colour"):
        Layout.from_dict({"colour": 1})
    with pytest.raises(TokenError, match="input id 9 is not below the number 9"):
        TokenIds(labels={"sex": (8, 9)}, first_bin=3, n_values=9)
