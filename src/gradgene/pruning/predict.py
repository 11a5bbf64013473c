"""What a model says of many cells, or of many cuts of them, in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from gradgene.halving import in_halves, limit_of
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pruning.cutting import CellCuts, Cuts
from gradgene.pruning.nested import nested_groups, read_nested
from gradgene.tokens import TokenBatch, length_batches, mask_category, padded

__all__ = ["Nothing", "Predictions", "Progress", "Track", "predict", "predict_cuts"]

#: Wraps a list of pieces of work, in a progress bar for example.
Track = Callable[[Sequence[Any]], Iterable[Any]]
#: Logits of some cuts of cells for a category.
Read = Callable[[PhenotypeGeneTransformer, CellCuts, Cuts, str], Tensor]
#: What it is called where it does not fit in memory.
PREDICTION = "prediction"
#: Batches, or groups of nested cuts, whose probabilities are kept together.
JOBS_A_PIECE = 32


@dataclass(frozen=True)
class Predictions:
    """Predictions of the masked target category.

    Attributes
    ----------
    probabilities_nc
        (cells, labels) softmax over the labels of the category, in vocabulary order.
    labels
        Names of the labels.
    """

    probabilities_nc: np.ndarray
    labels: tuple[str, ...]


class Progress(Protocol):
    """Keeps pieces of an unfinished work by their names."""

    def read(self, name: str) -> np.ndarray | None:
        """The piece of this name; None if it was not kept whole."""

    def write(self, name: str, piece: np.ndarray) -> None:
        """Keep a piece."""


class Nothing:
    """A `Progress` that keeps nothing."""

    def read(self, name: str) -> np.ndarray | None:
        """No piece."""
        return None

    def write(self, name: str, piece: np.ndarray) -> None:
        """Forget it."""


@torch.inference_mode()
def predict(
    model: PhenotypeGeneTransformer, tokens: TokenBatch, category: str, batch_tokens: int
) -> Predictions:
    """Mask `category` in every cell and predict it; rows as in `tokens`.

    The model must be in evaluation mode. What does not fit in memory is done in halves. Raises
    `TokenError` for an unknown category.
    """
    vocabulary = model.vocabulary
    ids = list(vocabulary.label_ids(category))
    device = next(model.parameters()).device
    masked, _ = mask_category(tokens, vocabulary, category)
    probabilities = torch.empty(len(tokens), len(ids))
    n_tokens_n = tokens.n_tokens_n

    def read(rows: Tensor) -> Tensor:
        batch = masked.take(rows).to(device)
        logits_nv = model.read(model.embed(batch), batch.attention_mask_nt, category)
        return _probabilities(logits_nv, ids).cpu()

    for rows in length_batches(n_tokens_n, batch_tokens):
        found = in_halves(
            read, rows, lambda some: padded(n_tokens_n[some]), limit_of(model, PREDICTION)
        )
        probabilities[rows] = torch.cat(found)
    return Predictions(probabilities.numpy(), vocabulary.categories[category])


@torch.inference_mode()
def predict_cuts(
    model: PhenotypeGeneTransformer,
    cells: CellCuts,
    cuts: Cuts,
    category: str,
    batch_tokens: int,
    *,
    track: Track = iter,
    progress: Progress | None = None,
) -> np.ndarray:
    """Predict the masked `category` of cells after each cut, rows as in `cuts`.

    Cuts of all cells, orders and lengths go into one list, of which equal ones are predicted once
    and those of similar length together, so that there is next to no padding. Where that is faster,
    all cuts of a cell by an order share work (see `nested`). What does not fit in memory is halved.

    Parameters
    ----------
    model
        In evaluation mode; decides the device.
    batch_tokens
        Padded tokens per forward pass.
    track
        Wraps the pieces of work.
    progress
        Where pieces done are kept, and looked for first.

    Returns
    -------
    numpy.ndarray
        (cuts, labels) float32 softmax over the labels of the category.

    Raises `TokenError` for an unknown category.
    """
    vocabulary, progress = model.vocabulary, Nothing() if progress is None else progress
    ids, device = list(vocabulary.label_ids(category)), next(model.parameters()).device
    found_vc = np.empty((len(cuts), len(ids)), dtype=np.float32)
    if not len(cuts):
        return found_vc
    first, which = cells.distinct(cuts)
    cuts = cuts.take(first)
    masked, _ = mask_category(cells.tokens, vocabulary, category)
    cells = CellCuts(masked, cells.place_og, cells.removal, cells.mask_id)
    jobs = _jobs(model, cells, cuts, batch_tokens)
    pieces = [jobs[i : i + JOBS_A_PIECE] for i in range(0, len(jobs), JOBS_A_PIECE)]
    digest = "" if isinstance(progress, Nothing) else cells.digest(cuts)
    here, shown = cells.to(device), cuts.to(device)
    distinct_vc = np.empty((len(cuts), len(ids)), dtype=np.float32)
    for i, piece in enumerate(track(pieces)):
        at_v = torch.cat([at for _, at in piece]).numpy()
        # How cuts are grouped depends on the device, so a piece is known by what it holds.
        name = f"{digest}-{batch_tokens}-{i}-{sha256(at_v.tobytes()).hexdigest()[:12]}"
        kept_vc = progress.read(name)
        if kept_vc is None:
            logits = (x_nv for job in piece for x_nv in _read(model, here, shown, category, job))
            kept_vc = torch.cat([_probabilities(x_nv, ids) for x_nv in logits]).cpu().numpy()
            progress.write(name, kept_vc)
        distinct_vc[at_v] = kept_vc
    each_vc: np.ndarray = distinct_vc[which.numpy()]
    return each_vc


def _jobs(
    model: PhenotypeGeneTransformer, cells: CellCuts, cuts: Cuts, batch_tokens: int
) -> list[tuple[Read, Tensor]]:
    """Which cuts are read together, and how; every cut once."""
    together = nested_groups(model, cells, cuts)
    alone_v = torch.ones(len(cuts), dtype=torch.bool)
    for group in together:
        alone_v[group] = False
    alone = alone_v.nonzero()[:, 0]
    batches = length_batches(cells.n_tokens(cuts.take(alone)), batch_tokens)
    jobs: list[tuple[Read, Tensor]] = [(read_nested, group) for group in together]
    return [*jobs, *((_read_shown, alone[rows]) for rows in batches)]


def _read(
    model: PhenotypeGeneTransformer,
    cells: CellCuts,
    cuts: Cuts,
    category: str,
    job: tuple[Read, Tensor],
) -> list[Tensor]:
    """Logits of the cuts of a job, in as few pieces as fit in memory."""
    read, at_v = job
    device = cuts.row_v.device

    def some(v: Tensor) -> Tensor:
        return read(model, cells, cuts.take(v.to(device)), category)

    def n_tokens(v: Tensor) -> int:
        return padded(cells.n_tokens(cuts.take(v.to(device))))

    return in_halves(some, at_v, n_tokens, limit_of(model, PREDICTION))


def _read_shown(
    model: PhenotypeGeneTransformer, cells: CellCuts, cuts: Cuts, category: str
) -> Tensor:
    """Logits (cuts, input ids) of cells as they look after the cuts."""
    shown = cells.show(cuts)
    return model.read(model.embed(shown), shown.attention_mask_nt, category)


def _probabilities(logits_nv: Tensor, ids: list[int]) -> Tensor:
    """(cells, labels) softmax over the labels of a category."""
    return logits_nv[:, ids].float().softmax(dim=1)
