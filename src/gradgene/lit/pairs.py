"""Serve planned pairs to `trainer.predict`, and collect what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from gradgene.attribution import Attribution
from gradgene.cells import Cells
from gradgene.genes import GeneSumsMetric
from gradgene.lit.batches import evened, rank_and_world
from gradgene.lit.distributed import gathered
from gradgene.pairs import BlendedBatch, PairPlan, blend
from gradgene.tokens import TokenBatch, Tokenizer

__all__ = ["AttributionCollector", "pair_loader"]

#: How many times larger batches of pairs are for methods that work per cell. Tokens, scores and
#: sums take about 260 bytes a position (measured): 0.6 GB for 256 times 8192 positions.
PER_CELL = 256


class PlannedPairs(Dataset[BlendedBatch]):
    """Blends the pairs at given positions of a plan; each distinct cell is tokenised once."""

    def __init__(self, tokens: TokenBatch, plan: PairPlan) -> None:
        self.tokens = tokens
        self.rows = plan.table[["input_row", "baseline_row"]].to_numpy()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, pairs: np.ndarray) -> BlendedBatch:
        chosen = torch.from_numpy(self.rows[pairs])
        distinct, at = torch.unique(chosen, return_inverse=True)
        return blend(self.tokens.take(distinct), at[:, 0], at[:, 1])


class PairBatches(DistributedSampler[np.ndarray]):
    """Positions of pairs in batches of bounded size, longest first.

    Pairs of one input stay together, so that its gradient is taken once; with `per_cell`, also
    inputs that are matched to the same controls. Processes share the batches, every pair in one of
    one process; being a `DistributedSampler`, it is not wrapped in another by Lightning.
    """

    def __init__(
        self, tokens: TokenBatch, plan: PairPlan, batch_tokens: int, per_cell: bool = False
    ) -> None:
        length_n = tokens.n_tokens_n.numpy()
        a, b = plan.input_rows, plan.baseline_rows
        upper_p = length_n[a] + length_n[b]  # a union is never longer than both members
        if per_cell:
            order = np.lexsort((b, a, -length_n[a], pd.factorize(plan.table["stratum"])[0]))
            batches = cut(order, upper_p, PER_CELL * batch_tokens)
            self.batches = sorted(batches, key=lambda pairs: -int(length_n[a[pairs]].max()))
        else:
            self.batches = cut(np.lexsort((a, -length_n[a])), upper_p, batch_tokens)

    def __len__(self) -> int:
        return len(self._share())

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self._share())

    def _share(self) -> list[np.ndarray]:
        """The batches of this process; all processes have as many."""
        rank, world = rank_and_world()
        return evened([*self.batches], world)[rank::world]


def cut(order: np.ndarray, upper_p: np.ndarray, n_tokens: int) -> list[np.ndarray]:
    """Pairs in this order, in batches of at most `n_tokens` padded tokens and at least one pair."""
    batches, start, longest = [], 0, 0
    for i, pair in enumerate(order):
        longest = max(longest, int(upper_p[pair]))
        if i > start and (i + 1 - start) * longest > n_tokens:
            batches.append(order[start:i])
            start, longest = i, int(upper_p[pair])
    return [*batches, order[start:]]


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
    share their cells.
    """
    tokens = tokenizer.encode(cells)
    batches = PairBatches(tokens, plan, batch_tokens, per_cell)
    return DataLoader(PlannedPairs(tokens, plan), sampler=batches, batch_size=None)


class AttributionCollector(lightning.Callback):
    """Adds every predicted batch to the gene sums and to the ledger of pairs.

    Parameters
    ----------
    sums
        Accumulator of gene scores.
    plan
        The pairs being attributed.
    write
        Called with each attribution and the plan positions of its pairs, for instance to write
        shards; None writes nothing.
    """

    def __init__(
        self,
        sums: GeneSumsMetric,
        plan: PairPlan,
        write: Callable[[Attribution, np.ndarray], None] | None = None,
    ) -> None:
        self.sums, self.plan, self.write = sums, plan, write
        self.donors_p = torch.from_numpy(plan.donors)
        self.ledger: list[pd.DataFrame] = []
        self.batches: list[np.ndarray] = []

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Put the sums where the scores will be, and note which pairs each batch holds."""
        self.sums.to(pl_module.device)
        loader = trainer.predict_dataloaders
        self.batches = list(loader.sampler)  # type: ignore[union-attr]

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: BlendedBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Accumulate one batch."""
        pairs = self.batches[batch_idx]
        self.sums.update(outputs, self.donors_p[pairs].to(outputs.gene_ids_pt.device))
        self.ledger.append(ledger(outputs, batch).assign(pair=pairs))
        if self.write is not None:
            self.write(outputs, pairs)

    def pairs(self) -> pd.DataFrame:
        """The plan with its measurements, in plan order (columns of `pairs.parquet`).

        Of several processes each must ask, and gets the measurements of all.
        """
        facts = self.plan.table[["pair", "input", "baseline", "donor_input", "donor_baseline"]]
        measured = pd.concat(gathered(pd.concat(self.ledger)))
        return facts.merge(measured, on="pair", validate="one_to_one")


def ledger(attribution: Attribution, blended: BlendedBatch) -> pd.DataFrame:
    """One row a pair: sizes, explained scalars and what the scores leave unexplained.

    Sizes are of the two cells; `f_input` and `f_baseline` are those of the forward pass, so under
    the empty baseline `f_baseline` is read from phenotypes alone.
    """
    forward, backward = attribution.forward, attribution.backward
    has_i, has_b = (m.gene_ids_nt >= 0 for m in (blended.input, blended.baseline))
    relative_p = torch.maximum(forward.relative_delta_p, backward.relative_delta_p)
    columns = {
        "n_genes_input": has_i.sum(dim=1),
        "n_genes_baseline": has_b.sum(dim=1),
        "n_shared": (has_i & has_b).sum(dim=1),
        "f_input": forward.f_input_p,
        "f_baseline": forward.f_baseline_p,
        "forward_delta": forward.delta_p,
        "backward_delta": backward.delta_p,
        "relative_delta": relative_p,
    }
    return pd.DataFrame({name: value.cpu().numpy() for name, value in columns.items()})
