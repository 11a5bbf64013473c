"""A study so small that it takes seconds: the planted cells, the words of its command line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd

from gradgene.commands.main import main
from tests.planted import make_adata

__all__ = ["QUICK", "contents", "progress", "read", "run_all_stages", "words", "write_cells"]

STUDY = (
    "study.name=tiny study.target=disease study.input=case study.baseline=control "
    "study.match_on=[cell_type] study.donor=donor data.phenotypes=[disease,cell_type] "
    "data.genes=null data.train_tokens=null data.bin_edges=[0.1,4,5,6,7] finetune.max_epochs=2 "
    "pruning=short_grid pruning.n_random=2 pairs.max_pairs=6 pairs.max_training_pairs=6 "
    "model.dim=16 model.n_heads=2 model.hidden_dim=32 logger=none"
).split()

#: Pruning of one ranking against chance: what most tests need of it.
QUICK = ("pruning.rankings=main", "pruning.controls=[random]")


def words(data: Path, folder: Path, *more: str) -> list[str]:
    """Overrides of the tiny study on `data` in `folder`; later ones win."""
    given = {key.partition("=")[0] for key in more}
    kept = [word for word in STUDY if word.partition("=")[0] not in given]
    return [*kept, f"data.path={data}", f"paths.output_dir={folder}", *more]


def run_all_stages(data: Path, folder: Path, *more: str) -> None:
    """Every stage as its own command, which draws no figures."""
    for command in ("train", "attribute", "prune", "evaluate"):
        assert main([command, *words(data, folder, *more)]) == 0, command


def write_cells(file: Path, change: Callable[[ad.AnnData], Any] | None = None) -> Path:
    """120 cells x 30 genes of 6 donors, changed by `change` in place or by what it returns."""
    adata = make_adata(120, 30, n_donors=6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # AnnData's advice on what we break on purpose
        changed = change(adata) if change else None
        (adata if changed is None else changed).write_h5ad(file)
    return file


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path -> bytes of every file below `folder`."""
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in files}


def progress(folder: Path) -> list[dict[str, Any]]:
    """Lines of `progress.jsonl`."""
    return [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]


def read(folder: Path, table: str) -> pd.DataFrame:
    """`<folder>/<table>.parquet`."""
    return pd.read_parquet(folder / f"{table}.parquet")
