"""ROAR: remove the best genes, train again on what is left, and judge the new model.

A model that loses a gene it was trained with may fail because such cells are new to it, and not
because the gene said anything. RemOve And Retrain (Hooker et al. 2019, arXiv:1806.10758) rules that
out: a model that never saw the genes misses nothing but what they said. It does not miss what other
genes say as well, so a ranking of genes that stand in for each other loses little.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy import sparse

from gradgene.cells import Cells
from gradgene.checkpoints import PretrainedModel, load_checkpoint
from gradgene.commands.config.binding import build
from gradgene.commands.prune.controls import main_ranking, wanted_controls
from gradgene.commands.run.workspace import Workspace
from gradgene.commands.train.batches import TrainingBatches
from gradgene.commands.train.stage import elsewhere, fit
from gradgene.errors import ConfigError
from gradgene.lit import CellDataModule
from gradgene.models import PhenotypeGeneTransformer
from gradgene.provenance import settings_hash
from gradgene.pruning import GeneRanking, Judged, PruningSettings, prune
from gradgene.store import write_parquet

__all__ = ["check_retrain", "n_retrained", "retrain_pruned"]

#: Controls that are retrained beside the main ranking: a training each is too much for all.
CONTROLS = ("hvg", "deg", "random")
ORDER: Literal["highest_first"] = "highest_first"


def check_retrain(work: Workspace, settings: PruningSettings) -> None:
    """Raise `ConfigError` where retraining is asked for and would not begin from random weights."""
    if settings.retrain and isinstance(build(work.cfg.model), PretrainedModel):
        raise ConfigError(
            "a pretrained model has seen the genes that are removed",
            where="pruning.retrain",
            expected="a model that begins with random weights",
            found="model=pretrained",
            fix="leave pruning.retrain empty, or choose another model=...",
        )
    if settings.retrain and work.cfg.checkpoint.path is not None:
        raise ConfigError(
            "a study of a finished model has no training to repeat",
            where="pruning.retrain",
            expected="checkpoint.path=null",
            found=f"checkpoint.path={work.cfg.checkpoint.path}",
            fix="train the model in this study, or leave pruning.retrain empty",
        )


def retrain_pruned(
    work: Workspace, settings: PruningSettings, rankings: Sequence[GeneRanking]
) -> None:
    """Write `pruning/retrained.parquet`: curves whose every point is a model trained for it.

    Of `rankings` the main one, HVG, DEG and the first random draw are taken. For each and each
    share of `settings.retrain` the highest-ranked genes are removed from all cells, a model of the
    same configuration and seed is trained and judged on the held-out cells. Columns are those of
    `curves.parquet`; ratio 0 is the study's own model. A finished training is kept under
    `pruning/retrain/` and a broken one goes on there; equal sets of genes are trained once. Without
    shares a table of before is removed. Several processes share each training, and the main one
    judges.
    """
    file = work.folder / "pruning" / "retrained.parquet"
    if not settings.retrain:
        if work.is_main:
            file.unlink(missing_ok=True)
        return
    chosen = chosen_rankings(rankings, main_ranking(work))
    frames = []
    if work.is_main:
        whole = _judge(work, settings, work.loaded.model, work.data)
        frames = [_named(whole, ranking, 0.0) for ranking in chosen]
    ratios = sorted(settings.retrain)
    for i, ranking in enumerate(chosen):
        for j, ratio in enumerate(ratios):
            work.console.print(
                f"retraining {i * len(ratios) + j + 1} of {len(chosen) * len(ratios)}: "
                f"without the best {ratio:.0%} by {ranking.name}"
            )
            found = _retrained(work, settings, ranking.kept(ratio, ORDER))
            if found is not None:
                frames.append(_named(found, ranking, ratio))
    if work.is_main:
        write_parquet(pd.concat(frames, ignore_index=True), file)


def n_retrained(work: Workspace, settings: PruningSettings) -> int:
    """How many models `retrain_pruned` trains, if no two rankings remove equal sets."""
    wanted = {main_ranking(work), *(set(CONTROLS) & {*wanted_controls(work, settings)})}
    return len(wanted) * len(settings.retrain)


def chosen_rankings(rankings: Sequence[GeneRanking], main: str) -> list[GeneRanking]:
    """The main ranking, then the controls that are retrained, each in its first draw."""
    first: dict[str, GeneRanking] = {}
    for ranking in rankings:
        first.setdefault(ranking.name, ranking)
    return [first[name] for name in dict.fromkeys([main, *CONTROLS]) if name in first]


def without_genes(cells: Cells, keep_g: np.ndarray) -> Cells:
    """The same cells and genes, with nothing expressed of genes whose entry is False.

    The vocabulary then still names them, so that all models have equal sizes and first weights, but
    no cell has a token of them.
    """
    matrix_ng = sparse.csr_matrix(cells.matrix_ng, copy=True)
    matrix_ng.data[~keep_g[matrix_ng.indices]] = 0
    matrix_ng.eliminate_zeros()
    return replace(cells, matrix_ng=matrix_ng)


def _retrained(
    work: Workspace, settings: PruningSettings, keep_g: np.ndarray
) -> pd.DataFrame | None:
    """The metrics of a model trained without some genes: read, or trained and judged now.

    Studies of other rankings remove the same genes by the same controls, and share the trainings.
    None in a process that only helped to train.
    """
    key = settings_hash([work.key("train"), np.packbits(keep_g).tobytes().hex()])
    folder = work.folder / "pruning" / "retrain" / key[:16]
    file = folder / "judged.parquet"
    address = work.cache.address("retrained", key, work.device, work.n_processes)

    def waits() -> None:
        work.console.print("another job is training without these genes, waiting for it")

    with work.cache.claimed(address, waits) if work.is_main else nullcontext():
        if work.is_main and not file.is_file():
            work.cache.restore(address, folder)
        if work.company.agreed(file.is_file()):
            return pd.read_parquet(file) if work.is_main else None
        again = elsewhere(work, folder, without_genes(_cells(work), keep_g))
        batches = fit(again)
        if not work.is_main:
            return None
        model = load_checkpoint(again.checkpoint).model.to(work.device)
        found = _judge(work, settings, model, again.data)
        write_parquet(found, file)
        shutil.rmtree(folder / "checkpoints")
        if batches == TrainingBatches.of(again):  # and not what fitted into this memory
            work.cache.keep(address, folder, [file])
    return found


def _cells(work: Workspace) -> Cells:
    assert work.data.cells is not None  # set up by the workspace
    return work.data.cells


def _judge(
    work: Workspace,
    settings: PruningSettings,
    model: PhenotypeGeneTransformer,
    data: CellDataModule,
) -> pd.DataFrame:
    """Every metric of the model on the whole held-out cells of `data`, with donor intervals."""
    facts = work.facts
    judged = Judged.of(
        data.part("test"), data.tokenizer, facts.target, facts.input, facts.baseline, facts.seed
    )
    every = GeneRanking("every gene", data.tokenizer.vocabulary.genes, np.zeros(_n_genes(data)))
    once = replace(settings, ratios=(0.0,), order=ORDER, rank_source="held_out", retrain=())
    found = prune(model.eval(), judged, [every], once).to_pandas()
    # Drops are measured from the same model with every gene, which is what was just judged.
    return found[found["metric"] != "probability_drop"]


def _n_genes(data: CellDataModule) -> int:
    return len(data.tokenizer.vocabulary.genes)


def _named(found: pd.DataFrame, ranking: GeneRanking, ratio: float) -> pd.DataFrame:
    return found.assign(ranking=ranking.name, draw=ranking.draw, ratio=ratio)
