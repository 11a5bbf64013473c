"""What a model says of many cells, or of many cuts of them, in batches of similar length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
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

    def shared(self, name: str) -> np.ndarray | None:
        """What the pieces of a part make together, if this or another work has done that part."""

    def share(self, name: str, part: np.ndarray) -> None:
        """Keep what the pieces of a part make together, for other works that have the same part."""


class Nothing:
    """A `Progress` that keeps nothing."""

    def read(self, name: str) -> np.ndarray | None:
        """No piece."""
        return None

    def write(self, name: str, piece: np.ndarray) -> None:
        """Forget it."""

    def shared(self, name: str) -> np.ndarray | None:
        """No part."""
        return None

    def share(self, name: str, part: np.ndarray) -> None:
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
        Wraps the pieces of work, and may give them in another order.
    progress
        Where pieces done are kept, and looked for first. The cuts by each order (equal ones by the
        first) then go into batches of their own, which works that have the same share.

    Returns
    -------
    numpy.ndarray
        (cuts, labels) float32 softmax over the labels of the category.

    Raises `TokenError` for an unknown category.
    """
    n_labels = len(model.vocabulary.label_ids(category))
    if not len(cuts):
        return np.empty((0, n_labels), dtype=np.float32)
    first, which = cells.distinct(cuts)
    masked, _ = mask_category(cells.tokens, model.vocabulary, category)
    cells, cuts = replace(cells, tokens=masked), cuts.take(first)
    parts = _parts(cells, cuts, batch_tokens, progress)
    progress = Nothing() if progress is None else progress
    distinct_vc = np.empty((len(cuts), n_labels), dtype=np.float32)
    for part in parts:
        if part.known_vc is not None:
            distinct_vc[part.at_v] = part.known_vc
    todo = [(part, piece) for part in parts for piece in part.pieces(model, batch_tokens)]
    n_left = Counter(part.name for part, _ in todo)
    on_device = cells.to(next(model.parameters()).device)
    for part, piece in track(todo):
        piece_vc = progress.read(piece.name)
        if piece_vc is None:
            piece_vc = _predicted(model, on_device, part, piece, category)
            progress.write(piece.name, piece_vc)
        distinct_vc[part.at_v[piece.at_v]] = piece_vc
        n_left[part.name] -= 1
        if not n_left[part.name]:  # of several processes, the one that has seen them all
            progress.share(part.name, distinct_vc[part.at_v])
    return np.asarray(distinct_vc[which.numpy()])


def _predicted(
    model: PhenotypeGeneTransformer, on_device: CellCuts, part: _Part, piece: _Piece, category: str
) -> np.ndarray:
    """(cuts, labels) of the jobs of a piece, in their order."""
    ids, device = list(model.vocabulary.label_ids(category)), on_device.place_og.device
    here = replace(on_device, place_og=part.cells.place_og.to(device))
    shown = part.cuts.to(device)
    logits = (x_nv for job in piece.jobs for x_nv in _read(model, here, shown, category, job))
    return torch.cat([_probabilities(x_nv, ids) for x_nv in logits]).cpu().numpy()


@dataclass(frozen=True)
class _Piece:
    """What is kept together of an unfinished part: its name and its jobs.

    `at_v` are the positions in the part of the cuts of all jobs, in their order.
    """

    name: str
    jobs: list[tuple[Read, Tensor]]

    @property
    def at_v(self) -> Tensor:
        return torch.cat([at for _, at in self.jobs])


@dataclass(frozen=True)
class _Part:
    """Distinct cuts that are grouped by themselves.

    `at_v` are their positions among all, `known_vc` what was said of them before.
    """

    name: str
    at_v: Tensor
    cells: CellCuts
    cuts: Cuts
    known_vc: np.ndarray | None = None

    def pieces(self, model: PhenotypeGeneTransformer, batch_tokens: int) -> list[_Piece]:
        """The work that is left, some jobs at a time."""
        if self.known_vc is not None:
            return []
        jobs = _jobs(model, self.cells, self.cuts, batch_tokens)
        some = [jobs[i : i + JOBS_A_PIECE] for i in range(0, len(jobs), JOBS_A_PIECE)]
        return [
            # How cuts are grouped depends on the device, so a piece is known by what it holds.
            _Piece(f"{self.name}-{i}-{_short(*(at for _, at in jobs))}", jobs)
            for i, jobs in enumerate(some)
        ]


def _parts(
    cells: CellCuts, cuts: Cuts, batch_tokens: int, progress: Progress | None
) -> list[_Part]:
    """The cuts by each order, with names that say all that decides them but the model.

    All in one where nothing is kept of them.
    """
    if progress is None:
        return [_Part("", torch.arange(len(cuts)), cells, cuts)]
    tokens, parts = cells.tokens_digest(), []
    for order in cuts.order_v.unique().tolist():
        at_v = (cuts.order_v == order).nonzero()[:, 0]
        alone = replace(cells, place_og=cells.place_og[order : order + 1])
        own = cuts.take(at_v)
        own = replace(own, order_v=torch.zeros_like(own.order_v))
        name = f"{alone.digest(own, tokens)}-{batch_tokens}"
        parts.append(_Part(name, at_v, alone, own, progress.shared(name)))
    return parts


def _short(*arrays: Tensor) -> str:
    return sha256(torch.cat(arrays).numpy().tobytes()).hexdigest()[:12]


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
