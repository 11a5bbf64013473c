"""One attribution method at work in a process of its own: time, memory, deltas, swap-gap."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gradgene.attribution import METHODS, AttributionMethod, build_method
from gradgene.commands.benchmark.attribution_case import TARGET, Case
from gradgene.commands.run.memory import peak_mb, resident_mb
from gradgene.evaluation import read_swap_gap, reading
from gradgene.models import PhenotypeGeneTransformer
from gradgene.modes import explaining
from gradgene.pairs import BlendedBatch
from gradgene.tokens import mask_category

__all__ = [
    "GRADIENT",
    "ONE_FORWARD_A_GENE",
    "Job",
    "MethodRun",
    "benchmarked",
    "method_table",
    "run_alone",
    "seconds_of",
    "stacked_gradient",
]

#: Methods that run the model once a gene: out of the question where cells are long.
ONE_FORWARD_A_GENE = frozenset({"swap_occlusion", "remove_occlusion"})
#: What `deeplift` is compared with: one forward and backward pass of both members of every pair.
GRADIENT = "one gradient"


@dataclass(frozen=True)
class Job:
    """What a process of its own is asked to do.

    Attributes
    ----------
    folder
        Where the `Case` lies.
    method
        A name of `METHODS`, or `GRADIENT`.
    n_steps
        Steps of methods that have a path.
    repeats
        Runs that are timed, behind one on a few genes of one pair that is not.
    gap
        Whether to swap genes in the order of the scores.
    device, threads
        Where to run, and torch's threads (None: as many as it takes).
    """

    folder: str
    method: str
    n_steps: int
    repeats: int = 1
    gap: bool = False
    device: str = "cpu"
    threads: int | None = None


@dataclass(frozen=True)
class MethodRun:
    """What one method took and gave, on all pairs in both directions.

    Attributes
    ----------
    seconds
        Of each timed run, all pairs together.
    before_mb, peak_mb, gpu_mb
        Resident memory when everything was loaded, the highest one, and that of the GPU.
    relative_delta_p
        (pairs,) the larger one of both directions; empty where nothing was scored.
    gap, gap_low, gap_high
        Swap-gap with its 95 % interval over pairs; None where it was not asked for.
    """

    method: str
    n_pairs: int
    seconds: tuple[float, ...]
    before_mb: float
    peak_mb: float
    gpu_mb: float | None
    relative_delta_p: tuple[float, ...] = ()
    gap: float | None = None
    gap_low: float | None = None
    gap_high: float | None = None

    def row(self) -> dict[str, Any]:
        """The run in one line of the table of methods."""
        deltas = np.array(self.relative_delta_p)
        numbers = asdict(self)
        del numbers["seconds"], numbers["relative_delta_p"], numbers["before_mb"]
        return {
            **numbers,
            "seconds_per_pair": float(np.median(self.seconds)) / self.n_pairs,
            "added_mb": self.peak_mb - self.before_mb,
            "delta_median": float(np.median(deltas)) if deltas.size else None,
            "delta_max": float(deltas.max()) if deltas.size else None,
        }


def benchmarked(name: str, n_steps: int) -> AttributionMethod:
    """The method with its defaults, but for the number of steps of a path."""
    takes = {field.name for field in fields(METHODS[name])}
    return build_method(name, **({"n_steps": n_steps} if "n_steps" in takes else {}))


def run_alone(job: Job) -> MethodRun:
    """Do the job; meant for a fresh process, whose memory is the method's alone."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    case = Case.read(Path(job.folder), job.device)
    if job.method == GRADIENT:
        seconds, memory, _ = _repeated(stacked_gradient, case, job)
        return MethodRun(job.method, len(case), seconds, *memory)
    method = benchmarked(job.method, job.n_steps)
    seconds, memory, found = _repeated(
        lambda model, pairs: method.attribute(model, pairs, TARGET), case, job
    )
    relative_p = torch.maximum(found.forward.relative_delta_p, found.backward.relative_delta_p)
    gap: dict[str, float] = {}
    if job.gap:
        with reading(case.model, case.blended(), TARGET) as reader:
            measured = read_swap_gap(reader, found.forward.scores_pt)
        low, high = measured.interval()
        gap = {"gap": measured.ratio, "gap_low": low, "gap_high": high}
    return MethodRun(
        job.method, len(case), seconds, *memory, tuple(relative_p.cpu().tolist()), **gap
    )


def stacked_gradient(model: PhenotypeGeneTransformer, blended: BlendedBatch) -> torch.Tensor:
    """∂f/∂E of all inputs and baselines as one padded batch, attention fused; (2 pairs, …)."""
    masked, _ = mask_category(blended.cells, model.vocabulary, TARGET.category)
    shown = blended.with_cells(masked)
    target = TARGET.bind(model.vocabulary)
    members = (shown.input, shown.baseline)
    with explaining(model):
        leaf_ntd = torch.cat([model.embed(m) for m in members]).requires_grad_(True)
        mask_nt = torch.cat([m.attention_mask_nt for m in members])
        f_n = target.read(model.read(leaf_ntd, mask_nt, target.category))
        (gradient_ntd,) = torch.autograd.grad(f_n.sum(), leaf_ntd)
    return gradient_ntd


def seconds_of(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """How long a piece of work took, and what it gave; a GPU is waited for."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    given = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, given


def _repeated(
    work: Callable[[PhenotypeGeneTransformer, BlendedBatch], Any], case: Case, job: Job
) -> tuple[tuple[float, ...], tuple[float, float, float | None], Any]:
    """Seconds of each timed run, memory before and at most, and what the last run gave."""
    few = case.first(1).shortened()
    work(few.model, few.blended())  # what torch loads at the first use is no part of a method
    blended, before = case.blended(), resident_mb()
    runs = [seconds_of(lambda: work(case.model, blended), job.device) for _ in range(job.repeats)]
    gpu = torch.cuda.max_memory_allocated() / 2**20 if job.device == "cuda" else None
    return tuple(seconds for seconds, _ in runs), (before, peak_mb(), gpu), runs[-1][1]


def method_table(runs: Mapping[str, list[MethodRun]]) -> pd.DataFrame:
    """A row a method: medians of what its runs took, beside Captum's DeepLIFT.

    Columns: `method, n_pairs, seconds_per_pair, captum_ratio` (how many times faster than
    `captum_deeplift`), `peak_mb, added_mb, gpu_mb, delta_median, delta_max, gap, gap_low,
    gap_high`.
    """
    rows = []
    for mine in runs.values():
        lines = pd.DataFrame([run.row() for run in mine])
        numbers = lines.drop(columns="method").astype(float).median()
        rows.append({"method": mine[0].method, **numbers.to_dict()})
    table = pd.DataFrame(rows)
    captum = table.loc[table["method"] == "captum_deeplift", "seconds_per_pair"]
    slow = float(captum.iloc[0]) if len(captum) else float("nan")
    table["captum_ratio"] = slow / table["seconds_per_pair"]
    order = "method n_pairs seconds_per_pair captum_ratio peak_mb added_mb gpu_mb delta_median"
    return table[[*order.split(), "delta_max", "gap", "gap_low", "gap_high"]]
