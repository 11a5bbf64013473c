"""Which files a stage leaves behind, what decides them, and how a run shares them with others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gradgene.cells import resolve_paths
from gradgene.checkpoints import PretrainedModel, weights_file
from gradgene.commands.config.binding import build
from gradgene.commands.run.contents import Contents, combined
from gradgene.commands.run.folder import RunFolder
from gradgene.commands.run.stage_cache import Entry, StageCache
from gradgene.errors import OutputError

__all__ = ["contents_of_model", "refuse_emptied", "shared_stage", "stage_files", "with_contents"]

#: Files of each stage in the folder of a run; hidden ones are none of them.
FILES = {
    "train": (
        *("checkpoints/**/*", "training.csv", "confusion.parquet", "test_donors.parquet"),
        "data_report.json",
    ),
    "attribute": ("attributions/**/*", "pruning/rankings.parquet"),
    "prune": ("pruning/*.parquet",),
    "evaluate": (
        *("evaluation/**/*", "attributions/effects.parquet", "attributions/enrichment.parquet"),
    ),
}
#: What published checkpoints have for a vocabulary.
VOCABULARIES = ("*.pkl", "*.txt", "phenotypic_vocab/*.txt", "data/phenotypic_vocab/*.txt")
#: Configuration keys that may name a file.
NAMED = (
    *("data.genes", "checkpoint.genes", "model.genes", "pairs.file", "flags.symbols"),
    *("flags.foreign.markers", "ranking.file", "evaluation.known_genes", "evaluation.effects.file"),
)


def stage_files(folder: Path, stage: str) -> list[Path]:
    """Files that a stage has left in the folder of a run."""
    found = {file for pattern in FILES[stage] for file in folder.glob(pattern) if file.is_file()}
    if stage == "attribute":
        found -= {*stage_files(folder, "evaluate")}
    hidden = [f for f in found if any(p.startswith(".") for p in f.relative_to(folder).parts)]
    return sorted(found - {*hidden})


@contextmanager
def shared_stage(
    work: RunFolder, cache: StageCache, stage: str, address: str
) -> Iterator[Entry | None]:
    """Around the work of a stage, which is to be done where None is given; see `StageCache.shared`.

    Its figures in `metrics.json` go with its files. What an earlier configuration left in the
    folder of this stage and later ones is removed where the stage comes from the cache.
    """
    metrics = work.folder / "metrics.json"

    def waits() -> None:
        work.console.print(f"{stage}: another job is computing the same, waiting for it")

    def facts() -> dict[str, Any]:
        figures = json.loads(metrics.read_text()) if metrics.is_file() else {}
        mine = {k: v for k, v in figures.items() if k.startswith(work.METRICS[stage])}
        return {"made_by": str(work.folder), "metrics": mine}

    def files() -> list[Path]:
        return stage_files(work.folder, stage)

    def keeps() -> bool:
        return not work.peculiar

    with cache.shared(address, work.folder, files, waits, facts, keeps) as found:
        if found is not None:
            order = [*work.METRICS]
            for later in order[order.index(stage) :]:
                for file in stage_files(work.folder, later):
                    if file.relative_to(work.folder).as_posix() not in found.hashes:
                        file.unlink()
            work.add_metrics(found.facts["metrics"])
            work.console.print(
                f"{stage}: from the cache (made by {found.facts['made_by']})",
                markup=False,
                highlight=False,
            )
        yield found


def refuse_emptied(work: RunFolder) -> None:
    """What is done when a stage that was in the cache a moment ago is not."""
    raise OutputError(
        "the stage cache was emptied just now",
        where=str(work.folder),
        fix="give the command again, after `gradgene study` or the stages before it",
    )


def with_contents(cfg: DictConfig, contents: Contents) -> Any:
    """The configuration as plain values, with what files hold in the place of their names."""
    # Plain from the start: a key is asked for dozens of times a run, and OmegaConf takes its time.
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    for key in NAMED:
        *sections, last = key.split(".")
        holder = reduce(lambda found, name: found.get(name) or {}, sections, plain)
        if isinstance(holder.get(last), str):
            holder[last] = contents.of(holder[last]) or holder[last]
    evaluation, checkpoint = plain["evaluation"], plain["checkpoint"]
    if evaluation.get("gene_sets"):
        evaluation["gene_sets"] = [contents.of(file) or file for file in evaluation["gene_sets"]]
    if checkpoint["path"] is not None:
        checkpoint["path"] = contents_of_model(checkpoint["path"], checkpoint["kind"], contents)
    model = build(cfg.model)
    if isinstance(model, PretrainedModel):
        model.file()  # which is refused by its own name where there is none
        plain["model"]["path"] = contents_of_model(cfg.model.path, cfg.model.kind, contents)
    plain["data"]["path"] = _contents_of_cells(resolve_paths(plain["data"]["path"]), contents)
    return plain


def _contents_of_cells(files: Sequence[Path], contents: Contents) -> list[str | None]:
    """What files of cells hold; of several also what they are called, as ids of cells may be."""
    if len(files) == 1:
        return [contents.of(files[0])]
    names = [file.stem for file in files]
    if len(set(names)) < len(names):
        names = [str(file) for file in files]
    return [f"{name}: {contents.of(file)}" for name, file in zip(names, files, strict=True)]


def contents_of_model(path: str | Path, kind: str, contents: Contents) -> str | None:
    """Hash of a checkpoint: of its weights, and of the files that say how to read them.

    Published ones have their vocabulary beside the weights or in the folder above.

    Raises
    ------
    CheckpointError
        If there is no such checkpoint.
    """
    weights = weights_file(Path(path).expanduser(), kind)
    if weights.suffix == ".ckpt":
        return contents.of(weights)
    folder = weights.resolve().parent
    places = [(folder, "*.json"), *((f, p) for f in (folder, folder.parent) for p in VOCABULARIES)]
    beside = {
        f"{place == folder} {file.relative_to(place)}": contents.of(file)
        for place, pattern in places
        for file in sorted(place.glob(pattern))
    }
    return combined({"weights": contents.of(weights), **beside})
