"""Serve planned pairs to `trainer.predict`: which pairs in which batch, and their tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from gradgene.cells import Cells
from gradgene.errors import ConfigError
from gradgene.lit.batches import rank_and_world, token_lengths
from gradgene.pairs import BlendedBatch, PairPlan, blend
from gradgene.tokens import TokenBatch, Tokenizer

__all__ = ["PER_CELL", "PairBatches", "PlannedPairs", "pair_batches", "pair_loader"]

#: How many times larger batches of pairs are for methods that work per cell. Tokens, scores and
#: sums take about 260 bytes a position (measured): 0.6 GB for 256 times 8192 positions.
PER_CELL = 256


class PairBatches(DistributedSampler[np.ndarray]):
    """Positions of pairs in batches of bounded size, longest first.

    Pairs of one input stay together, so that its gradient is taken once; with `per_cell`, also
    inputs that are matched to the same controls. Batches are cut between inputs; only an input
    whose pairs are too many for one batch is spread over several. Processes share the batches,
    every pair in one of one process; being a `DistributedSampler`, it is not wrapped in another by
    Lightning.

    Parameters
    ----------
    plan
        The pairs.
    length_n
        Tokens of each cell; only those of the plan's cells are looked at.
    batch_tokens
        Padded tokens a batch, per member; `PER_CELL` times as many with `per_cell`.

    Attributes
    ----------
    n_done
        How many batches of this process are done already and not served again.
    stopped
        Set to True, no further batch is served.
    """

    def __init__(
        self, plan: PairPlan, length_n: np.ndarray, batch_tokens: int, per_cell: bool = False
    ) -> None:
        a, b = plan.input_rows, plan.baseline_rows
        self.plan, self.n_done, self.stopped = plan, 0, False
        self.length_n, self.batch_tokens, self.per_cell = length_n, batch_tokens, per_cell
        # A union is never longer than both members.
        self.upper_p = length_n[a] + length_n[b]
        if per_cell:
            order = np.lexsort((b, a, -length_n[a], pd.factorize(plan.table["stratum"])[0]))
            batches = cut(order, a, self.upper_p, PER_CELL * batch_tokens)
            self.batches = sorted(batches, key=lambda pairs: -int(length_n[a[pairs]].max()))
        else:
            self.batches = cut(np.lexsort((a, -length_n[a])), a, self.upper_p, batch_tokens)

    def __len__(self) -> int:
        return len(self.left())

    def __iter__(self) -> Iterator[np.ndarray]:
        for pairs in self.left():
            if self.stopped:
                return
            yield pairs

    def length_of(self, pairs: np.ndarray) -> int:
        """The padded positions of a pair at most, if these pairs are one batch."""
        return int(self.upper_p[pairs].max())

    def share(self) -> list[np.ndarray]:
        """The batches of this process, done or not; all processes have as many."""
        rank, world = rank_and_world()
        return evened(self.batches, self.plan.input_rows, world)[rank::world]

    def left(self) -> list[np.ndarray]:
        """The batches of this process that are not done."""
        return self.share()[self.n_done :]

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits of what the batches hold: the cells of every pair, batch by batch."""
        digest = hashlib.sha256()
        for pairs in self.batches:
            digest.update(np.asarray(pairs, dtype=np.int64).tobytes() + b"|")
        for column in ("input", "baseline"):
            digest.update("\n".join(map(str, self.plan.table[column])).encode())
        return digest.hexdigest()[:12]


class PlannedPairs(Dataset[BlendedBatch]):
    """Blends the pairs at given positions of a plan; each cell of `served` is tokenised once."""

    def __init__(
        self, cells: Cells, tokenizer: Tokenizer, plan: PairPlan, served: PairBatches | None = None
    ) -> None:
        self.cells, self.tokenizer, self.served = cells, tokenizer, served
        self.rows = plan.table[["input_row", "baseline_row"]].to_numpy(dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, pairs: np.ndarray) -> BlendedBatch:
        distinct, at = np.unique(self.rows[pairs], return_inverse=True)
        at_p2 = torch.from_numpy(at.reshape(-1, 2))
        return blend(self._tokens(distinct), at_p2[:, 0], at_p2[:, 1])

    def _tokens(self, rows: np.ndarray) -> TokenBatch:
        if self.served is None:
            return self.tokenizer.encode(self.cells.take(rows))
        return self._all_tokens.take(torch.from_numpy(np.searchsorted(self._all_rows, rows)))

    @cached_property
    def _all_rows(self) -> np.ndarray:
        """Sorted positions of the cells of the batches that this process has yet to do."""
        assert self.served is not None
        left = self.served.left()
        return np.unique(self.rows[np.concatenate(left)]) if left else np.empty(0, dtype=np.int64)

    @cached_property
    def _all_tokens(self) -> TokenBatch:
        return self.tokenizer.encode(self.cells.take(self._all_rows))


def cut(
    order: np.ndarray, inputs_p: np.ndarray, upper_p: np.ndarray, n_tokens: int
) -> list[np.ndarray]:
    """Pairs in this order, in batches of at most `n_tokens` padded tokens and at least one pair.

    A batch ends where the input (`inputs_p`, by pair) changes, or where the pairs of one input
    alone are more than a batch may hold.
    """
    starts, longest = [0], 0  # of the batches, and the longest pair of the last of them
    first = 0
    for end in (*(np.flatnonzero(np.diff(inputs_p[order])) + 1).tolist(), len(order)):
        of_input = upper_p[order[first:end]].tolist()
        both = max(longest, *of_input, 0)
        if (end - starts[-1]) * both <= n_tokens:
            longest = both
        else:
            if first > starts[-1]:
                starts.append(first)
            longest = 0
            for i, upper in enumerate(of_input, first):
                longest = max(longest, upper)
                if i > starts[-1] and (i + 1 - starts[-1]) * longest > n_tokens:
                    starts.append(i)
                    longest = upper
        first = end
    return np.split(order, starts[1:])


def evened(batches: list[np.ndarray], inputs_p: np.ndarray, world: int) -> list[np.ndarray]:
    """The batches, some cut in two until their number is a multiple of `world`.

    Batches are cut between inputs as long as there is one of several inputs, that of the most pairs
    first; within an input only then.

    Raises
    ------
    ConfigError
        If there are fewer pairs than processes.
    """
    made = [*batches]
    if len(made) % world == 0:
        return made
    n_inputs = [len(np.unique(inputs_p[pairs])) for pairs in made]
    while len(made) % world:
        several = [i for i, n in enumerate(n_inputs) if n > 1]
        i = max(several or range(len(made)), key=lambda i: len(made[i]))
        if len(made[i]) < 2:
            raise ConfigError(
                "are more processes than there are pairs to share",
                where="trainer.devices",
                found=str(world),
                fix="run fewer processes, or draw more pairs with pairs.max_pairs=...",
            )
        halves = _halves(made[i], inputs_p) if several else np.array_split(made[i], 2)
        made[i : i + 1] = halves
        n_inputs[i : i + 1] = [len(np.unique(inputs_p[half])) for half in halves]
    return made


def _halves(pairs: np.ndarray, inputs_p: np.ndarray) -> list[np.ndarray]:
    """Pairs of several inputs in two, between inputs and as near to the middle as that allows."""
    changes = np.flatnonzero(np.diff(inputs_p[pairs])) + 1
    return np.split(pairs, [int(changes[np.argmin(np.abs(changes - len(pairs) / 2))])])


def pair_batches(
    cells: Cells,
    tokenizer: Tokenizer,
    plan: PairPlan,
    batch_tokens: int,
    *,
    per_cell: bool = False,
) -> PairBatches:
    """The batches of a plan over prepared `cells`, at most `batch_tokens` tokens a member."""
    used = np.unique(np.concatenate([plan.input_rows, plan.baseline_rows]))
    length_n = np.zeros(len(cells), dtype=np.int64)
    length_n[used] = token_lengths(cells.take(used), tokenizer, None)
    return PairBatches(plan, length_n, batch_tokens, per_cell)


def pair_loader(
    cells: Cells,
    tokenizer: Tokenizer,
    plan: PairPlan,
    batch_tokens: int,
    *,
    per_cell: bool = False,
) -> DataLoader[BlendedBatch]:
    """Blended batches of a plan over prepared `cells`, at most `batch_tokens` tokens a member.

    For methods that do their work `per_cell`, up to `PER_CELL` times as many: they run the model on
    few cells at a time whatever the batch, and the more pairs there are in one, the more of them
    share their cells. Its `sampler` are the `PairBatches`.
    """
    batches = pair_batches(cells, tokenizer, plan, batch_tokens, per_cell=per_cell)
    served = PlannedPairs(cells, tokenizer, plan, batches)
    return DataLoader(served, sampler=batches, batch_size=None)
