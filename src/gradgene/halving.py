"""Work that does not fit in memory, done in halves, and what was found to fit."""

from __future__ import annotations

import gc
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gradgene.errors import GradgeneError

__all__ = ["TokenLimit", "TooLargeError", "in_halves", "limit_of", "out_of_memory", "tried"]

Result = TypeVar("Result")

log = logging.getLogger(__name__)

#: How allocators say it where they raise a plain `RuntimeError`.
SAID = (
    "out of memory",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class TooLargeError(GradgeneError):
    """One row alone does not fit in memory: `row` of what was asked for, of `n_tokens` tokens."""

    def __init__(self, what: str, row: int, n_tokens: int) -> None:
        self.row, self.n_tokens = row, n_tokens
        super().__init__(
            "does not fit in memory even alone",
            where=what,
            found=f"{n_tokens} tokens at a time",
            fix="use a machine or a GPU (trainer=gpu) with more memory, or a smaller model",
        )


@dataclass
class TokenLimit:
    """How many padded tokens of one kind of work fit in memory at a time.

    Attributes
    ----------
    what
        The work, for messages.
    tokens
        The most that are given at a time; None as long as nothing failed to fit.
    """

    what: str
    tokens: int | None = None
    #: What did not fit and has not been told yet.
    failed: int | None = None

    def lower(self, n_tokens: int) -> None:
        """Note that so many do not fit."""
        self.failed = max(n_tokens, self.failed or 0)
        self.tokens = max(1, min(n_tokens, self.tokens or n_tokens) // 2)

    def tell(self) -> None:
        """Say once what did not fit and what does."""
        if self.failed is not None:
            log.warning(
                "%s: %d tokens at a time do not fit in memory; going on with %d",
                self.what,
                self.failed,
                self.tokens,
            )
            self.failed = None


_LIMITS: WeakKeyDictionary[nn.Module, dict[str, TokenLimit]] = WeakKeyDictionary()


def limit_of(model: nn.Module, what: str) -> TokenLimit:
    """The limit of this work with this model, the same one as long as the model lives."""
    return _LIMITS.setdefault(model, {}).setdefault(what, TokenLimit(what))


def in_halves(
    work: Callable[[Tensor], Result],
    rows: Tensor,
    n_tokens: Callable[[Tensor], int],
    limit: TokenLimit,
) -> list[Result]:
    """The results of `work` for all rows together, or in order for the pieces of them that fit.

    Parameters
    ----------
    work
        Does some rows; what it held is given back before it is called again.
    rows
        (rows,) at least one.
    n_tokens
        Padded tokens of some rows; asked for only where something has not fitted.
    limit
        Pieces above it are halved without being tried; it is lowered by those that do not fit.

    Raises
    ------
    TooLargeError
        If a single row does not fit.
    """
    left, done = [rows], []
    while left:
        piece = left.pop()
        if len(piece) > 1 and limit.tokens is not None and n_tokens(piece) > limit.tokens:
            middle = len(piece) // 2
            left += [piece[middle:], piece[:middle]]
            continue
        found = tried(lambda piece=piece: work(piece))  # type: ignore[misc]
        if found:
            done += found
            limit.tell()
        elif len(piece) == 1:
            raise TooLargeError(limit.what, int(piece[0]), n_tokens(piece))
        else:
            limit.lower(n_tokens(piece))
            left.append(piece)
    return done


def tried(work: Callable[[], Result]) -> list[Result]:
    """The result of `work`; none if it ran out of memory, which is free again then."""
    try:
        return [work()]
    except Exception as error:
        if not out_of_memory(error):
            raise
        _let_go(error)
    # Only here is the error gone, and with it what its frames held.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return []


def out_of_memory(error: BaseException) -> bool:
    """Whether this says that memory, of the host or of a GPU, did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError | TooLargeError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in SAID)


def _let_go(error: BaseException) -> None:
    """Empty the frames that an error and those before it keep alive, with the tensors in them."""
    seen: BaseException | None = error
    while seen is not None:
        traceback.clear_frames(seen.__traceback__)
        seen = seen.__cause__ or seen.__context__
