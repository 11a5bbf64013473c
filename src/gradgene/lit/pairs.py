"""Serve planned pairs to `trainer.predict`, and collect what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from gradgene.attribution import Attribution
from gradgene.cells import Cells
from gradgene.genes import GeneSumsMetric
from gradgene.pairs import BlendedBatch, PairPlan, blend
from gradgene.tokens import TokenBatch, Tokenizer

__all__ = ["AttributionCollector", "pair_loader"]


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


class PairBatches(Sampler[np.ndarray]):
    """Positions of pairs in batches of bounded size, longest first.

    Pairs of one input stay together, so that its gradient is taken once.
    """

    def __init__(self, tokens: TokenBatch, plan: PairPlan, batch_tokens: int) -> None:
        length_n = tokens.n_tokens_n.numpy()
        a, b = (plan.table[c].to_numpy() for c in ("input_row", "baseline_row"))
        upper_p = length_n[a] + length_n[b]  # a union is never longer than both members
        order = np.lexsort((a, -length_n[a]))
        self.batches: list[np.ndarray] = []
        start = 0
        for stop in range(1, len(order) + 1):
            full = stop < len(order) and (
                (stop + 1 - start) * int(upper_p[order[start : stop + 1]].max()) > batch_tokens
            )
            if full or stop == len(order):
                self.batches.append(order[start:stop])
                start = stop

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.batches)


def pair_loader(
    cells: Cells, tokenizer: Tokenizer, plan: PairPlan, batch_tokens: int
) -> DataLoader[BlendedBatch]:
    """Blended batches of a plan over prepared `cells`, at most `batch_tokens` tokens a member."""
    tokens = tokenizer.encode(cells)
    return DataLoader(
        PlannedPairs(tokens, plan), sampler=PairBatches(tokens, plan, batch_tokens), batch_size=None
    )


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
        """The plan with its measurements, in plan order (columns of `pairs.parquet`)."""
        facts = self.plan.table[["pair", "input", "baseline", "donor_input", "donor_baseline"]]
        return facts.merge(pd.concat(self.ledger), on="pair", validate="one_to_one")


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
