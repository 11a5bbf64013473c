"""How a family of models writes a cell: special tokens, label texts, which genes, what is missing.

Our own format and the published ones differ in these values only.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from gradgene.errors import TokenError

__all__ = ["CLS", "EOS", "MASK", "PAD", "Layout", "TokenIds"]

#: Input ids of the special tokens of our own format; their token type is 0.
CLS, EOS, MASK, PAD = 0, 1, 2, 3

TextRule = Literal["plain", "bracketed", "ascii", "ascii_by_category"]
Genes = Literal["expressed", "stored", "all"]
Identity = Literal["type", "position"]
UnknownLabels = Literal["error", "mask"]
Absent = Literal["error", "mask", "missing"]


def _plain(category: str, label: str) -> str:
    return label


def _bracketed(category: str, label: str) -> str:
    return "[" + label.replace(" ", "_").strip() + "]"


def _ascii(category: str, label: str) -> str:
    """Lower-case ASCII letters and digits; anything else between them becomes one `_`."""
    text = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    words = re.findall("[a-z0-9]+", re.sub(r"'s\b", "", text))
    return f"[{'_'.join(words)}]"


def _ascii_by_category(category: str, label: str) -> str:
    """As `_ascii`; the label `unknown` of one category is not that of another."""
    return _ascii(category, f"unknown {category}" if label == "unknown" else label)


TEXTS: Mapping[TextRule, Callable[[str, str], str]] = {
    "plain": _plain,
    "bracketed": _bracketed,
    "ascii": _ascii,
    "ascii_by_category": _ascii_by_category,
}
CHOICES = {
    "text": get_args(TextRule),
    "genes": get_args(Genes),
    "identity": get_args(Identity),
    "unknown_labels": get_args(UnknownLabels),
    "absent": get_args(Absent),
}


@dataclass(frozen=True)
class Layout:
    """`[CLS] phenotypes ([START]) genes ([EOS])`, and what each of them looks like.

    The defaults are our own format.

    Parameters
    ----------
    cls, mask, pad
        Input ids of the special tokens.
    end
        Input id of the token behind the genes; None for none.
    start
        Input id of the token between phenotypes and genes; None for none.
    text
        From a label to the text of its token: "plain" leaves it; "bracketed" makes `T cell`
        `[T_cell]`; "ascii" makes it `[t_cell]`; "ascii_by_category" does too, and makes `unknown`
        `[unknown_<category>]`.
    unknown_labels
        "error", or "mask": a label without a token becomes `[MASK]`.
    absent
        Cells without an obs column of a phenotype are an "error", or have "mask": `[MASK]` in its
        slot, or what cells without a label have: "missing".
    missing
        Category -> input id in the slot of a cell without a label. For other categories it is the
        token of the label `unknown`, or `[MASK]` if there is none.
    genes
        "expressed" genes only; every "stored" value, those in `bin_0` included; or "all" genes of
        the vocabulary, with attention off for those in `bin_0`.
    identity
        "type": a token type stands for a category or gene. "position": the position does; token
        types then are positions.
    max_length
        Tokens of the longest sequence; longer ones lose their last genes and their end token.

    Raises
    ------
    TokenError
        For a choice that does not exist.
    """

    cls: int = CLS
    end: int | None = EOS
    mask: int = MASK
    pad: int = PAD
    start: int | None = None
    text: TextRule = "plain"
    unknown_labels: UnknownLabels = "error"
    absent: Absent = "error"
    missing: Mapping[str, int] = field(default_factory=dict)
    genes: Genes = "expressed"
    identity: Identity = "type"
    max_length: int | None = None

    def __post_init__(self) -> None:
        for name, valid in CHOICES.items():
            if getattr(self, name) not in valid:
                raise TokenError(
                    f"{name} of the layout is unknown",
                    expected=f"one of {', '.join(valid)}",
                    found=str(getattr(self, name)),
                )
        object.__setattr__(self, "missing", dict(self.missing))

    def token(self, category: str, label: str) -> str:
        """Text of the token of a label."""
        return TEXTS[self.text](category, label)

    def to_dict(self) -> dict[str, Any]:
        """The parameters that are not our own format's, as plain types."""
        ours = Layout()
        return {k: v for k, v in asdict(self).items() if v != getattr(ours, k)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Layout:
        """The inverse of `to_dict`; raises `TokenError` naming an unknown parameter."""
        unknown = sorted(set(data) - {f.name for f in fields(cls)})
        if unknown:
            raise TokenError(f"the layout has unknown parameters: {', '.join(unknown)}")
        return cls(**data)


@dataclass(frozen=True)
class TokenIds:
    """Input ids of a vocabulary that lists them, instead of following from its labels.

    Parameters
    ----------
    labels
        Category -> input ids of its labels, in their order.
    first_bin
        Input id of `bin_0`; the other bins follow.
    n_values
        Number of input ids, among them any that stand for nothing here.
    """

    labels: Mapping[str, tuple[int, ...]]
    first_bin: int
    n_values: int

    def __post_init__(self) -> None:
        labels = {c: tuple(int(i) for i in ids) for c, ids in self.labels.items()}
        largest = max((i for ids in labels.values() for i in ids), default=0)
        if largest >= self.n_values:
            raise TokenError(f"input id {largest} is not below the number {self.n_values} of ids")
        object.__setattr__(self, "labels", labels)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as `TokenIds(**data)` takes them."""
        return {**asdict(self), "labels": {c: list(ids) for c, ids in self.labels.items()}}
