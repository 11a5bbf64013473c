"""What a model from elsewhere is not given."""

from __future__ import annotations

import pytest

from gradgene.commands.run.refusals import refuse_same_token
from gradgene.errors import CheckpointError
from gradgene.tokens import Layout, Vocabulary


def vocabulary(layout: Layout) -> Vocabulary:
    return Vocabulary(
        {"disease": ("crohn disease", "normal")}, ("disease",), ("g",), (0.5,), layout=layout
    )


@pytest.mark.parametrize(
    ("category", "contrast"),
    [
        ("disease", ("Crohn's disease", "crohn disease")),
        ("disease", ("X-1", "X 1")),  # new to the model, which would give them one id
        ("stage", ("II", "ii")),  # and so would a category that is new to it
    ],
)
def test_two_labels_of_one_token_are_refused(category: str, contrast: tuple[str, str]) -> None:
    with pytest.raises(CheckpointError, match=r"study\.baseline: .* one token \[.*\] for both"):
        refuse_same_token(vocabulary(Layout(text="ascii")), category, *contrast)
    refuse_same_token(vocabulary(Layout()), category, *contrast)


def test_labels_that_the_model_tells_apart_are_not_refused() -> None:
    for contrast in (("Crohn's disease", "normal"), ("X-1", "normal"), ("X-1", "Y")):
        refuse_same_token(vocabulary(Layout(text="ascii")), "disease", *contrast)
