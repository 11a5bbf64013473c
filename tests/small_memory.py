"""A machine whose memory holds few tokens: what is larger ends as it would there."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gradgene.models import PhenotypeGeneTransformer

__all__ = ["SmallMemory"]


class SmallMemory:
    """Reading more than `n_tokens` padded tokens at a time raises what an allocator raises.

    Attributes
    ----------
    failed, done
        Tokens of the readings that did not fit, and of those that did, in their order.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, n_tokens: int) -> None:
        self.n_tokens = n_tokens
        self.failed: list[int] = []
        self.done: list[int] = []
        read = PhenotypeGeneTransformer.read

        def reading(model: Any, x_ntd: torch.Tensor, *more: Any, **others: Any) -> torch.Tensor:
            n_tokens = x_ntd.shape[0] * x_ntd.shape[1]
            if n_tokens > self.n_tokens:
                self.failed.append(n_tokens)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            self.done.append(n_tokens)
            return read(model, x_ntd, *more, **others)

        monkeypatch.setattr(PhenotypeGeneTransformer, "read", reading)
