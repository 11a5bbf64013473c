"""What every checkpoint loader gives back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gradgene.cells import CellSchema
from gradgene.errors import CheckpointError, ConfigError, TokenError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.tokens import Tokenizer, Vocabulary

__all__ = ["LoadReport", "LoadedModel", "assemble", "schema_from"]


@dataclass(frozen=True)
class LoadReport:
    """What was read: the kind of checkpoint, its path and the number of tensors."""

    kind: str
    path: str
    n_tensors: int


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with the tokenizer it was trained with.

    `vocabulary` is the tokenizer's; `report` says where everything came from; `trained_on` names
    the donors (or cells, where there were no donors) it must not be judged on, if it is known.
    """

    model: PhenotypeGeneTransformer
    tokenizer: Tokenizer
    report: LoadReport
    trained_on: tuple[str, ...] = ()

    @property
    def vocabulary(self) -> Vocabulary:
        """Ids of labels, bins, categories and genes."""
        return self.tokenizer.vocabulary

    def spelled_as(self, labels: Mapping[str, Iterable[str]]) -> LoadedModel:
        """The same model with labels (category -> labels) under the names given.

        Some published models rewrite labels; see `Vocabulary.spelled_as`.
        """
        vocabulary = self.vocabulary.spelled_as(labels)
        model = copy(self.model)  # the same weights
        model.vocabulary = vocabulary
        return replace(self, model=model, tokenizer=replace(self.tokenizer, vocabulary=vocabulary))


def schema_from(data: Mapping[str, Any]) -> CellSchema:
    """The schema kept in a checkpoint; KeyError or TypeError where it is another thing."""
    return CellSchema(**{**data, "phenotypes": tuple(data["phenotypes"])})


def assemble(
    tokenizer: Tokenizer,
    size: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    report: LoadReport,
    trained_on: Sequence[str] = (),
) -> LoadedModel:
    """Build the model and fill it; raises `CheckpointError` listing tensors that do not fit."""
    try:
        model = PhenotypeGeneTransformer(tokenizer.vocabulary, **size)
    # Sizes that are none: torch raises RuntimeError, also for more memory than there is.
    except (TypeError, ValueError, ArithmeticError, RuntimeError, ConfigError, TokenError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"describes no model: {reason}", where=report.path) from error
    wanted = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    given = {k: tuple(v.shape) for k, v in tensors.items()}
    wrong = sorted(k for k in wanted.keys() | given.keys() if wanted.get(k) != given.get(k))
    if wrong:
        raise CheckpointError(
            f"{len(wrong)} tensors do not fit the model: {', '.join(wrong[:8])}",
            where=report.path,
            expected=str({k: wanted.get(k) for k in wrong[:3]}),
            found=str({k: given.get(k) for k in wrong[:3]}),
        )
    model.load_state_dict(dict(tensors))
    return LoadedModel(model.eval(), tokenizer, report, tuple(trained_on))
