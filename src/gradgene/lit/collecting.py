"""Collect what comes back from `trainer.predict` over planned pairs, and keep how far it came."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch

from gradgene.attribution import Attribution
from gradgene.errors import AttributionError
from gradgene.genes import GeneSumsMetric
from gradgene.halving import TooLargeError
from gradgene.lit.batches import rank_and_world
from gradgene.lit.distributed import gathered
from gradgene.lit.explaining import Explained, reason
from gradgene.lit.pairs import PairBatches
from gradgene.pairs import BlendedBatch, PairPlan
from gradgene.store import AttributionState, PairShardWriter, read_state, write_state

__all__ = ["AttributionCollector", "Keeping"]

#: Saving now and then may take this share of the time at most, however large the sums are.
SAVING_SHARE = 0.1


@dataclass(frozen=True)
class Keeping:
    """How progress is kept, so that what was broken off goes on where it was.

    Parameters
    ----------
    folder
        One file a process goes there: `rank-<number>.safetensors`.
    key
        What the work is of; progress of other work is not gone on with.
    batches
        The batches served, which are told how many of them are done.
    every_s
        Seconds between two writings; 0 writes after every batch.
    shards
        Makes the writer of the shards of a process by its number; None writes no shards.
    """

    folder: Path
    key: str
    batches: PairBatches
    every_s: float = 30.0
    shards: Callable[[int], PairShardWriter] | None = None


class AttributionCollector(lightning.Callback):
    """Adds every predicted batch to the gene sums and to the ledger of pairs.

    Parameters
    ----------
    sums
        Accumulator of gene scores.
    plan
        The pairs being attributed.
    keeping
        How progress is kept; None keeps nothing.

    Attributes
    ----------
    problem
        Why this process stopped; None where it did not.
    note
        Why what was done before is not gone on with; empty where it is or there is nothing.
    n_resumed
        Batches of this process that were done before.
    """

    def __init__(
        self,
        sums: GeneSumsMetric,
        plan: PairPlan,
        keeping: Keeping | None = None,
    ) -> None:
        self.sums, self.plan, self.keeping = sums, plan, keeping
        self.ledger: list[pd.DataFrame] = []
        self.failed: list[dict[str, Any]] = []
        self.batches: list[np.ndarray] = []
        self.shards: PairShardWriter | None = None
        self.problem: AttributionError | None = None
        self.note, self.n_resumed, self.n_done = "", 0, 0
        self._saved_at, self._saving_s = time.monotonic(), 0.0

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Put the sums where the scores will be, and go on where this process was broken off."""
        if self.keeping is not None:
            rank, _ = rank_and_world()
            self.shards = self.keeping.shards(rank) if self.keeping.shards else None
            self._resume()
        self.sums.to(trainer.strategy.root_device)

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Note which pairs each batch holds."""
        self.batches = list(trainer.predict_dataloaders.sampler)  # type: ignore[union-attr]

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: Any,
        outputs: Attribution | Explained,
        batch: BlendedBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Accumulate one batch; stop where a pair cannot be explained and must be.

        Raises
        ------
        AttributionError
            For a pair without finite scores, or one that does not fit in memory, in one process;
        several stop first, see `finish`.
        """
        pairs = self.batches[batch_idx]
        if isinstance(outputs, Attribution):
            outputs = Explained(batch, outputs, [*range(len(pairs))], {})
        if outputs.too_large or (outputs.errors and not pl_module.explanation.skips):
            self._stop(self._error(pl_module.explanation.method, pairs, outputs))
            return
        self.failed += [
            {"pair": int(pairs[i]), "reason": reason(e)} for i, e in outputs.errors.items()
        ]
        if outputs.attribution is not None and outputs.batch is not None:
            self._add(outputs.attribution, outputs.batch, pairs[outputs.kept])
        self.n_done += 1
        self._keep()
        if self.keeping is not None and any(self.keeping.folder.glob("stopped-*")):
            self.keeping.batches.stopped = True

    def finish(self) -> None:
        """After predict: keep what is left to keep, and end if any process had to stop.

        Of several processes each must ask.

        Raises
        ------
        AttributionError
            In the main process, what stopped the first that stopped; the others just end.
        """
        if self.problem is None:
            self._keep(now=True)  # before waiting for others, who may never come
        stopped = [problem for problem in gathered(self.problem) if problem is not None]
        if stopped:
            raise stopped[0] if rank_and_world()[0] == 0 else SystemExit(0)
        if self.shards is not None:
            self.shards.close()
        if not self.sums.update_called:
            # Every pair of this process was left out; torchmetrics would warn of empty sums.
            self.sums.load_state_dict(self.sums.state_dict())

    def pairs(self) -> pd.DataFrame:
        """The plan with its measurements, in plan order (columns of `pairs.parquet`).

        Pairs that were left out are not in it. Of several processes each must ask, and gets the
        measurements of all.

        Raises
        ------
        AttributionError
            If no pair at all has scores, or a pair was not served.
        """
        facts = self.plan.table[["pair", "input", "baseline", "donor_input", "donor_baseline"]]
        measured = [frame for share in gathered(self.ledger) for frame in share]
        if not measured:
            raise AttributionError(
                "not one pair has finite scores",
                where="attribution",
                found=f"{len(self.plan)} pairs left out",
                fix="check the checkpoint for NaN weights",
            )
        table = facts.merge(pd.concat(measured), on="pair", validate="one_to_one")
        n_lost = len(self.plan) - len(table) - len(self.left_out())
        if n_lost:
            raise AttributionError(
                f"{n_lost} of {len(self.plan)} pairs were not explained",
                where="trainer",
                fix="take away what ends prediction early, such as trainer.limit_predict_batches",
            )
        return table

    def left_out(self) -> pd.DataFrame:
        """Pairs without scores, in plan order: `pair, input, baseline, reason`; ask everywhere."""
        every = [one for share in gathered(self.failed) for one in share]
        reasons = {int(one["pair"]): str(one["reason"]) for one in every}
        frame = self.plan.table.loc[sorted(reasons), ["pair", "input", "baseline"]]
        return frame.assign(reason=[reasons[pair] for pair in sorted(reasons)]).astype(
            {"reason": object}
        )

    def _add(self, attribution: Attribution, batch: BlendedBatch, pairs: np.ndarray) -> None:
        device = attribution.gene_ids_pt.device
        self.sums.update(attribution, torch.from_numpy(pairs).to(device))
        self.ledger.append(ledger(attribution, batch).assign(pair=pairs))
        if self.shards is not None:
            self.shards.write(attribution, pairs)

    def _error(self, method: Any, pairs: np.ndarray, outputs: Explained) -> AttributionError:
        (position, error), *_ = outputs.errors.items()
        row = self.plan.table.iloc[int(pairs[position])]
        layer = getattr(method, "layer", None)
        if isinstance(error, TooLargeError):
            return AttributionError(
                f"pair {row['pair']} does not fit in memory even alone",
                where=f"attribution.method={method.name}",
                found=f"input {row['input']!r}, baseline {row['baseline']!r}: {error.n_tokens} "
                "tokens together",
                fix="use a machine or a GPU (trainer=gpu) with more memory, a smaller model, or a "
                "method that holds less, such as attribution=grad_x_delta",
            )
        return AttributionError(
            f"pair {row['pair']} has no finite scores",
            where=f"attribution.method={method.name}" + (f", layer={layer}" if layer else ""),
            found=f"input {row['input']!r}, baseline {row['baseline']!r}: {reason(error)}",
            fix="check the checkpoint for NaN weights and the cells for odd values, or leave such "
            "pairs out with attribution.on_error=skip",
        )

    def _stop(self, problem: AttributionError) -> None:
        """One process raises; several are told through a file, as their only collectives are at
        the end."""
        rank, world = rank_and_world()
        if world == 1 or self.keeping is None:
            raise problem
        self.problem = problem
        self.keeping.batches.stopped = True
        self.keeping.folder.mkdir(parents=True, exist_ok=True)
        (self.keeping.folder / f"stopped-{rank}").touch()

    def _of(self) -> dict[str, str]:
        assert self.keeping is not None
        rank, world = rank_and_world()
        return {
            "configuration": self.keeping.key,
            "set of pairs": self.keeping.batches.hash,
            "number of processes": str(world),
            "process": str(rank),
        }

    def _file(self) -> Path:
        assert self.keeping is not None
        return self.keeping.folder / f"rank-{rank_and_world()[0]}.safetensors"

    def _resume(self) -> None:
        assert self.keeping is not None
        state, self.note = read_state(self._of(), self._file())
        known = [] if state is None else state.shards
        if self.shards is not None and not self.shards.resume(known):
            state, self.note = None, "shards written before are no longer there"
        if state is None:
            return
        self.sums.load_state_dict(state.sums)
        self.ledger = [state.ledger] if len(state.ledger) else []
        self.failed = [*state.failed]
        self.n_done = self.n_resumed = self.keeping.batches.n_done = state.n_batches

    def _keep(self, now: bool = False) -> None:
        """Write how far this process has come, if it is time to."""
        if self.keeping is None or (now and self.n_done == self.n_resumed):
            return
        started = time.monotonic()
        every_s = self.keeping.every_s
        wait_s = max(every_s, self._saving_s / SAVING_SHARE) if every_s else 0.0
        if not now and started - self._saved_at < wait_s:
            return
        state = AttributionState(
            n_batches=self.n_done,
            sums=self.sums.state_dict(),
            ledger=pd.concat(self.ledger) if self.ledger else pd.DataFrame(),
            failed=self.failed,
            shards=self.shards.shards if self.shards is not None else [],
        )
        write_state(state, self._of(), self._file())
        self._saved_at = time.monotonic()
        self._saving_s = self._saved_at - started


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
