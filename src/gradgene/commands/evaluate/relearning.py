"""Models of the study's own configuration that learnt labels which mean nothing.

Random weights say whether a ranking depends on what the model learnt; these, whether it depends on
what there was to learn (the data randomisation test of Adebayo et al. 2018, arXiv:1810.03292).
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from gradgene.cells import Cells
from gradgene.checkpoints import load_checkpoint
from gradgene.commands.run.workspace import Workspace
from gradgene.commands.train.stage import elsewhere, fit
from gradgene.errors import ConfigError
from gradgene.evaluation.sanity import Sanity
from gradgene.models import PhenotypeGeneTransformer

__all__ = ["check_relearning", "relearnt"]


def check_relearning(work: Workspace, settings: Sanity) -> None:
    """Raise `ConfigError` where there is no training to repeat, or several processes share it."""
    if settings.n_retrained and work.cfg.checkpoint.path is not None:
        raise ConfigError(
            "a study of a finished model has no training to repeat",
            where="evaluation.sanity.n_retrained",
            expected="0, or checkpoint.path=null",
            found=f"checkpoint.path={work.cfg.checkpoint.path}",
            fix="train the model in this study, or leave out evaluation.sanity.n_retrained",
        )
    if settings.n_retrained and work.n_processes > 1:
        raise ConfigError(
            "models of permuted labels are trained in one process",
            where="evaluation.sanity.n_retrained",
            expected="trainer=cpu or trainer=gpu",
            found=f"{work.n_processes} processes",
            fix="evaluate by itself: `gradgene evaluate` with the same words and trainer=cpu",
        )


def relearnt(work: Workspace, seed: int) -> PhenotypeGeneTransformer:
    """A model trained like the study's on permuted labels, in evaluation mode.

    The target's labels are permuted among all training and validation cells, whatever their donor,
    so that no gene says anything of them; test cells keep theirs.
    """
    data = work.data
    assert data.cells is not None  # set up by the workspace
    rows = np.concatenate([data.split.train_n, data.split.validation_n])
    cells = with_permuted(data.cells, data.target, rows, seed)
    with tempfile.TemporaryDirectory(prefix=".permuted-labels-", dir=work.folder) as folder:
        again = elsewhere(work, Path(folder), cells)
        fit(again)
        model = load_checkpoint(again.checkpoint).model
    return model.to(work.device).eval()


def with_permuted(cells: Cells, target: str, rows: np.ndarray, seed: int) -> Cells:
    """The same cells, the labels of `target` permuted among those at `rows`."""
    from_n = np.arange(len(cells))
    from_n[rows] = np.random.default_rng(seed).permutation(rows)
    permuted = cells.obs[target].array.take(from_n)
    return replace(cells, obs=cells.obs.assign(**{target: permuted}))
