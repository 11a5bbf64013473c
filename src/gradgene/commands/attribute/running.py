"""Run one method over one set of pairs: in one process or several, and again where it stopped."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Literal

import pandas as pd
from omegaconf import OmegaConf

from gradgene.attribution import AttributionSettings
from gradgene.cells import Cells
from gradgene.commands.config.binding import build
from gradgene.commands.run.folder import interruptible
from gradgene.commands.run.stage_cache import Entry
from gradgene.commands.run.workspace import Workspace
from gradgene.genes import (
    GeneSums,
    GeneSumsMetric,
    Importance,
    PairDesign,
    default_importance,
)
from gradgene.halving import limit_of
from gradgene.lit import (
    AttributionCollector,
    Keeping,
    PairBatches,
    PhenotypeModule,
    pair_loader,
    rank_and_world,
)
from gradgene.lit.distributed import gathered, whole
from gradgene.lit.pairs import PER_CELL
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BaselineStrategy, PairPlan
from gradgene.pruning import RankingChoice
from gradgene.store import PairShardWriter, merge_manifests

__all__ = [
    "Attributed",
    "attribute_pairs",
    "attributed_before",
    "attribution_key",
    "clear_progress",
    "design_of",
    "main_importance",
    "module_of",
    "new_sums",
    "ranking_of",
    "table_folder",
]


@dataclass(frozen=True)
class Attributed:
    """What a method found over the pairs of one split, of all processes.

    Attributes
    ----------
    sums
        Per-gene sums.
    pairs
        The ledger: one row a pair that has scores, in plan order.
    left_out
        Pairs without finite scores: `pair, input, baseline, reason`.
    batch_tokens
        Tokens at a time that fitted in memory in every process: as configured, or fewer.
    """

    sums: GeneSums
    pairs: pd.DataFrame
    left_out: pd.DataFrame
    batch_tokens: int


def attribute_pairs(
    work: Workspace, settings: AttributionSettings, cells: Cells, plan: PairPlan, split: str
) -> Attributed:
    """Run Lightning's predict over a plan; what was done before in this folder is not done again.

    Raises
    ------
    AttributionError
        For a pair without finite scores, unless such are skipped; then if no other is left.
    """
    loaded, method = work.loaded, settings.method
    loader = pair_loader(
        cells, loaded.tokenizer, plan, work.batch_tokens(settings), per_cell=method.per_cell
    )
    batches = loader.sampler
    assert isinstance(batches, PairBatches)
    sums = new_sums(work, settings, cells, plan)
    address = sums_address(work, settings, batches, split)
    keeping = Keeping(
        folder=progress_folder(work) / f"{split}-{method.name}",
        key=address,
        batches=batches,
        every_s=settings.keep_every_s,
        shards=_shard_writer(work, settings, split),
    )
    collector = AttributionCollector(sums, plan, keeping)
    said = f"{method.name}: {len(plan)} pairs of {split} cells"
    progress = [c for n, c in build(work.cfg.callbacks).items() if n == "progress"]
    trainer = work.trainer(
        logger=False,
        callbacks=[*progress, collector],
        strategy=whole(build(work.cfg.trainer).keywords.get("strategy", "auto")),
    )
    with _shared_sums(work, address, keeping) as found:
        work.console.print(said if found is None else f"{said}, from the cache")
        with interruptible():
            trainer.predict(module_of(work, settings), loader, return_predictions=False)
        loaded.model.to(work.device)  # Lightning gives models back on the CPU
        if collector.note:
            work.console.print(f"[yellow]{method.name}: begun anew, because {collector.note}[/]")
        collector.finish()
        pairs = collector.pairs()  # of all processes: each has kept its sums by now
    fitted = min(gathered(fitting_tokens(work, settings)))
    attributed = Attributed(sums.gene_sums(), pairs, collector.left_out(), fitted)
    if collector.shards is not None and work.is_main:
        skipped = [int(pair) for pair in attributed.left_out["pair"]]
        merge_manifests(collector.shards.folder, rank_and_world()[1], len(plan), skipped)
    return attributed


def fitting_tokens(work: Workspace, settings: AttributionSettings) -> int:
    """Tokens at a time that this process went on with, where more did not fit in memory."""
    method, asked = settings.method, work.batch_tokens(settings)
    pairs, cells = (
        limit_of(work.loaded.model, name).tokens or asked
        for name in (method.name, f"{method.name}, cells")
    )
    if method.per_cell and limit_of(work.loaded.model, method.name).tokens:
        pairs = max(1, pairs // PER_CELL)
    return min(asked, pairs, cells)


def module_of(
    work: Workspace,
    settings: AttributionSettings,
    model: PhenotypeGeneTransformer | None = None,
    on_error: Literal["raise", "stop", "skip"] | None = None,
) -> PhenotypeModule:
    """The module whose `predict_step` explains with a method.

    It explains the study's model or another of the same vocabulary; pairs without finite scores are
    dealt with as the settings say, or as `on_error` does.
    """
    facts = work.facts
    module = PhenotypeModule(
        work.loaded.model if model is None else model,
        work.loaded.tokenizer.schema,
        facts.target,
        build(work.cfg.finetune),
        build(work.cfg.objective),
    )
    module.explain_with(
        settings.method.holding(work.batch_tokens(settings)),
        settings.target(facts.target, facts.input, facts.baseline),
        build(work.cfg.baseline),
        on_error or settings.on_error,
    )
    return module


def new_sums(
    work: Workspace, settings: AttributionSettings, cells: Cells, plan: PairPlan
) -> GeneSumsMetric:
    """An empty accumulator for a method over the pairs of a plan."""
    vocabulary = work.loaded.vocabulary
    baseline: BaselineStrategy = build(work.cfg.baseline)
    choice: RankingChoice = build(work.cfg.ranking)
    return GeneSumsMetric(
        n_genes=len(vocabulary.genes),
        n_phenotypes=len(vocabulary.phenotypes),
        design=design_of(work, cells, plan),
        importances=Importance.meaningful(
            settings.method.name, baseline.name, settings.target_kind
        ),
        sees_presence=settings.method.sees_presence,
        normalise=settings.normalize,
        main=main_importance(work, settings).name,
        n_null=choice.n_null,
        seed=work.facts.seed,
    )


def design_of(work: Workspace, cells: Cells, plan: PairPlan) -> PairDesign:
    """What is known of the pairs of a plan besides their scores."""
    baseline: BaselineStrategy = build(work.cfg.baseline)
    choice: RankingChoice = build(work.cfg.ranking)
    threshold = work.loaded.vocabulary.bin_edges[0]
    return PairDesign.of(plan, cells, threshold, by=choice.by, swaps=baseline.swaps)


def main_importance(work: Workspace, settings: AttributionSettings) -> Importance:
    """The importance that makes a method's table: the configured one where it is the main method.

    Raises
    ------
    AttributionError
        If the configured importance is meaningless for the method and baseline, or the method
        cannot explain against the baseline.
    """
    choice: RankingChoice = build(work.cfg.ranking)
    baseline: BaselineStrategy = build(work.cfg.baseline)
    method = settings.method.name
    chosen = choice.importance if settings is work.settings else None
    name = chosen or default_importance(method, baseline.name)
    return Importance(name, method, baseline.name, settings.target_kind)


def ranking_of(work: Workspace, settings: AttributionSettings) -> str:
    """Name of the ranking that makes a method's table, by magnitude where the study's is.

    Raises
    ------
    AttributionError
        As `main_importance`.
    """
    choice: RankingChoice = build(work.cfg.ranking)
    suffix = "/abs" if choice.sign == "absolute" else ""
    return f"{settings.method.name}/{main_importance(work, settings).name}{suffix}"


def table_folder(work: Workspace, settings: AttributionSettings) -> Path:
    """`attributions/` for the main method, a folder below it for each compared one."""
    folder = work.folder / "attributions"
    return folder if settings is work.settings else folder / settings.method.name


def progress_folder(work: Workspace) -> Path:
    """Where attributions that are not finished keep how far they came."""
    return work.folder / "attributions" / ".progress"


def clear_progress(work: Workspace, *, finished: bool) -> None:
    """Forget what stopped an earlier run, and with `finished` also how far it came."""
    for file in progress_folder(work).glob("*/stopped-*"):
        file.unlink()
    if finished:
        shutil.rmtree(progress_folder(work), ignore_errors=True)


def attribution_key(work: Workspace) -> str:
    """What kept estimates are of: the settings, the very weights, and the program."""
    return work.address("attribute")


def attributed_before(
    work: Workspace, settings: AttributionSettings, batches: PairBatches, split: str
) -> bool:
    """Whether the cache holds what a method finds over these pairs."""
    if _writes_shards(settings, split):
        return False
    return work.cache.find(sums_address(work, settings, batches, split)) is not None


def sums_address(
    work: Workspace, settings: AttributionSettings, batches: PairBatches, split: str
) -> str:
    """What decides the sums of a method over the pairs of a plan, and nothing else.

    That is cells and weights, pairs and how they go into batches, the method, and what is counted
    beside the scores; not what tables and rankings are made of the sums, nor other methods.
    """
    choice: RankingChoice = build(work.cfg.ranking)
    plan = pd.util.hash_pandas_object(batches.plan.table, index=False).to_numpy()
    save = settings.save if _writes_shards(settings, split) else "table"
    return work.cache.address(
        "sums",
        *(work.key("train"), work.weights_hash(), OmegaConf.select(work.cfg, "data.batch")),
        *(settings.deciding(save), main_importance(work, settings).name),
        OmegaConf.to_container(work.cfg.baseline),
        *(choice.n_null, choice.by, batches.hash, sha256(plan.tobytes()).hexdigest()),
        *(split, work.n_processes, work.device),
    )


def _shared_sums(
    work: Workspace, address: str, keeping: Keeping
) -> AbstractContextManager[Entry | None]:
    """Around an attribution: gives its finished state from the cache, or keeps it there.

    Not where shards are written: sums that come from elsewhere have none. Of several processes the
    main one looks for the states of all.
    """
    if keeping.shards is not None or not work.is_main:
        return nullcontext()

    def states() -> list[Path]:
        return sorted(keeping.folder.glob("rank-*.safetensors"))

    def waits() -> None:
        work.console.print("another job is attributing these pairs, waiting for it")

    return work.cache.shared(address, keeping.folder, states, waits)


def _writes_shards(settings: AttributionSettings, split: str) -> bool:
    return settings.save == "pairs" and split == "test"


def _shard_writer(
    work: Workspace, settings: AttributionSettings, split: str
) -> partial[PairShardWriter] | None:
    """Makes what writes each batch's scores, by the number of the process; for `save=pairs`."""
    if not _writes_shards(settings, split):
        return None
    vocabulary = work.loaded.vocabulary
    return partial(
        PairShardWriter,
        table_folder(work, settings) / "pairs",
        vocabulary.genes,
        vocabulary.phenotypes,
        work.key("attribute"),
    )
