"""Models of the study's own configuration that learnt labels which mean nothing.

Random weights say whether a ranking depends on what the model learnt; these, whether it depends on
what there was to learn (the data randomisation test of Adebayo et al. 2018, arXiv:1810.03292).
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from gradgene.cells import Cells
from gradgene.checkpoints import PretrainedModel, load_checkpoint
from gradgene.commands.config.binding import build
from gradgene.commands.run.workspace import Workspace
from gradgene.commands.train.batches import TrainingBatches
from gradgene.commands.train.stage import elsewhere, fit
from gradgene.errors import ConfigError
from gradgene.evaluation.sanity import Sanity
from gradgene.models import PhenotypeGeneTransformer
from gradgene.provenance import settings_hash

__all__ = ["check_relearning", "forget_relearnt", "relearnt"]

WHERE = "evaluation.sanity.n_retrained"


def check_relearning(work: Workspace, settings: Sanity) -> None:
    """Raise `ConfigError` where there is no training to repeat, from random weights, in a process.

    Pretrained weights may have met the true labels.
    """
    if not settings.n_retrained:
        return
    if work.cfg.checkpoint.path is not None:
        raise ConfigError(
            "a study of a finished model has no training to repeat",
            where=WHERE,
            expected="0, or checkpoint.path=null",
            found=f"checkpoint.path={work.cfg.checkpoint.path}",
            fix=f"train the model in this study, or set {WHERE}=0",
        )
    if isinstance(build(work.cfg.model), PretrainedModel):
        raise ConfigError(
            "a pretrained model may have met the labels before they were permuted",
            where=WHERE,
            expected="a model that begins with random weights",
            found="model=pretrained",
            fix=f"set {WHERE}=0, or choose another model=...",
        )
    if work.n_processes > 1:
        raise ConfigError(
            "models of permuted labels are trained in one process, as the study's must be",
            where=WHERE,
            expected="trainer=cpu or trainer=gpu",
            found=f"{work.n_processes} processes",
            fix=f"set {WHERE}=0, or begin a study in another folder with trainer=cpu",
        )


def relearnt(work: Workspace, seed: int) -> PhenotypeGeneTransformer:
    """A model trained like the study's on permuted labels, in evaluation mode.

    The target's labels are permuted among all training and validation cells, whatever their donor,
    so that no gene says anything of them; test cells keep theirs. First weights are others than the
    study's. A training that was broken off goes on, and studies that ask for the same share it.
    """
    key = settings_hash([work.key("train"), "permuted labels", seed])
    folder = _folder(work) / key[:16]
    file = folder / "model.ckpt"
    address = work.cache.address("relearnt", key, work.device)

    def waits() -> None:
        work.console.print("another job is training on these permuted labels, waiting for it")

    with work.cache.claimed(address, waits):
        if not file.is_file():
            work.cache.restore(address, folder)
        if not file.is_file():
            _train(work, folder, file, seed, address)
    return load_checkpoint(file).model.to(work.device).eval()


def forget_relearnt(work: Workspace) -> None:
    """Remove the models from the folder of the run, when what they say is written."""
    shutil.rmtree(_folder(work), ignore_errors=True)


def with_permuted(cells: Cells, target: str, rows: np.ndarray, seed: int) -> Cells:
    """The same cells, the labels of `target` permuted among those at `rows` (rows,) positions."""
    from_n = np.arange(len(cells))
    from_n[rows] = np.random.default_rng(seed).permutation(rows)
    permuted = cells.obs[target].array.take(from_n)
    return replace(cells, obs=cells.obs.assign(**{target: permuted}))


def _folder(work: Workspace) -> Path:
    return work.folder / "evaluation" / ".relearnt"


def _train(work: Workspace, folder: Path, file: Path, seed: int, address: str) -> None:
    data = work.data
    assert data.cells is not None  # set up by the workspace
    rows = np.concatenate([data.split.train_n, data.split.validation_n])
    cells = with_permuted(data.cells, data.target, rows, seed)
    again = elsewhere(work, folder, cells, work.facts.seed + 1 + seed)
    batches = fit(again)
    again.checkpoint.replace(file)
    shutil.rmtree(folder / "checkpoints")
    if batches == TrainingBatches.of(again):
        work.cache.keep(address, folder, [file])
    else:
        work.peculiar = True  # what is said of it is of what fitted into this memory
