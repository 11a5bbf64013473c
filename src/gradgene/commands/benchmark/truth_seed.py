"""One seed of `gradgene benchmark truth`: its cells, its model and every ranking, kept on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import anndata as ad
import hydra
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from gradgene import __version__
from gradgene.attribution import METHODS, AttributionSettings
from gradgene.cells import PLANTED_LEVELS, Cells, PlantedGenes, plant_cells
from gradgene.commands.attribute.running import Attributed, attribute_pairs
from gradgene.commands.attribute.tables import flags_of, rankings_of
from gradgene.commands.config.binding import bind, build
from gradgene.commands.config.groups import conf_dir
from gradgene.commands.run.folder import stamp
from gradgene.commands.run.workspace import Workspace
from gradgene.commands.train.stage import train
from gradgene.errors import AttributionError
from gradgene.evaluation.learnt import learnt_pairs
from gradgene.pairs import BASELINES, BaselineStrategy, PairSampler
from gradgene.provenance import settings_hash
from gradgene.pruning import (
    GeneRanking,
    deg_ranking,
    expression_ranking,
    hvg_ranking,
    random_rankings,
)
from gradgene.store import append_json_line, atomic_path, read_json_lines, write_json, write_parquet

__all__ = [
    "ARMS",
    "MAIN_ARM",
    "NO_MODEL",
    "UNMATCHED",
    "Arm",
    "SeedJob",
    "methods_of",
    "run_seed",
    "seconds_of",
]


@dataclass(frozen=True)
class Arm:
    """Against what the same held-out cells are explained: a baseline, and what pairs agree on."""

    baseline: str
    match_on: tuple[str, ...] = ("cell_type", "batch")


#: Arm -> what it is; the first is the one that the goals are about.
ARMS = {
    "cell_state": Arm("cell_state"),
    "mean": Arm("mean"),
    "empty": Arm("empty"),
    "zero": Arm("zero"),
    "unmatched": Arm("cell_state", ("cell_type",)),
}
MAIN_ARM, UNMATCHED = "cell_state", "unmatched"
#: Stands for the arm of rankings that no model has part in.
NO_MODEL = "none"


@dataclass(frozen=True)
class SeedJob:
    """What one process does for one simulation and the model trained on it.

    Attributes
    ----------
    level, cells_seed, model_seed
        The cells, and the seed of the model, of its split and of the pairs.
    folder
        Where everything of this seed is kept.
    methods, arms
        What is run; the first method alone in the arm "unmatched".
    pairs, other_pairs
        Held-out pairs of baseline cells as they are, and of the other baselines.
    n_random
        Random orders.
    device, threads
        Where torch runs.
    """

    level: str
    cells_seed: int
    model_seed: int
    folder: str
    methods: tuple[str, ...]
    arms: tuple[str, ...]
    pairs: int
    other_pairs: int
    n_random: int
    device: str
    threads: int


def methods_of(arm: str, methods: Sequence[str]) -> tuple[str, ...]:
    """Those of `methods` that an arm is run with: all that can be told of its baseline."""
    if arm == UNMATCHED:
        return tuple(methods[:1])
    able = []
    for method in methods:
        try:
            METHODS[method].require_baseline(BASELINES[ARMS[arm].baseline])
        except AttributionError:
            continue  # asking is how it is found out; the reason is the method's own
        able.append(method)
    return tuple(able)


def run_seed(job: SeedJob) -> str:
    """Do what is not done: write the cells, train, ask what was learnt, rank; give the folder.

    Raises
    ------
    OutputError
        If the folder holds a model of other cells or settings.
    """
    torch.set_num_threads(job.threads)
    folder, console = Path(job.folder), Console(soft_wrap=True)
    data = folder / "cells.h5ad"
    with timed(folder, "simulation") as say:
        say(write_cells(job, data))
    with workspace(job, MAIN_ARM, data) as work:
        work.write_provenance()
        with timed(folder, "training") as say:
            say(not work.is_done("train"))
            work.stage("train", train)
        console.print(f"seed {job.cells_seed}: trained")
        with timed(folder, "learnt pairs") as say:
            say(write_learnt(work, data, folder / "learnt.parquet"))
        with timed(folder, "controls") as say:
            say(write_controls(job, work, folder / "rankings" / NO_MODEL))
    for arm in job.arms:
        if methods_of(arm, job.methods):
            with workspace(job, arm, data) as work:
                write_arm(job, arm, work, console)
    return job.folder


@contextmanager
def timed(folder: Path, part: str) -> Iterator[Callable[[bool], None]]:
    """Note in `seconds.jsonl` how long it took, if it says that it did anything."""
    did: list[bool] = []
    started = time.perf_counter()
    yield did.append
    if any(did):
        line = {"part": part, "seconds": round(time.perf_counter() - started, 2)}
        append_json_line(line, folder / "seconds.jsonl")


def write_cells(job: SeedJob, file: Path) -> bool:
    """Plant the cells unless they are there; whether it was done.

    Cells of another level are replaced, which a model trained on them then refuses.
    """
    facts = {"level": asdict(PLANTED_LEVELS[job.level]), "seed": job.cells_seed}
    key, marker = settings_hash(facts), file.with_suffix(".json")
    if file.is_file() and marker.is_file() and json.loads(marker.read_text())["key"] == key:
        return False
    planted = plant_cells(PLANTED_LEVELS[job.level], job.cells_seed)
    with atomic_path(file) as temporary:
        planted.write(temporary)
    write_json({"key": key}, marker)
    return True


@contextmanager
def workspace(job: SeedJob, arm: str, data: Path) -> Iterator[Workspace]:
    """The run of this seed as one arm sees it; all arms share its model."""
    folder = Path(job.folder) / "run"
    with Workspace(config(job, arm, data, folder), folder) as work:
        work.console.quiet = True
        yield work


def config(job: SeedJob, arm: str, data: Path, folder: Path) -> DictConfig:
    """The composed and checked configuration."""
    chosen, first, *rest = ARMS[arm], *methods_of(arm, job.methods)
    level = PLANTED_LEVELS[job.level]
    held_out = ",".join(map(str, ad.read_h5ad(data, backed="r").uns["held_out"]))
    overrides = [
        "experiment=planted",
        f'data.path="{data}"',
        f'paths.output_dir="{folder}"',
        "paths.cache=null",  # what is kept between runs has tables and timings of its own
        f"study.seed={job.model_seed}",
        f"study.match_on=[{','.join(chosen.match_on)}]",
        f"baseline={chosen.baseline}",
        f"attribution={first}",
        f"study.compare=[{','.join(rest)}]",
        f"pairs.max_pairs={job.pairs if arm in (MAIN_ARM, UNMATCHED) else job.other_pairs}",
        "ranking.n_null=0",  # no p-value is asked for
        f"trainer={'gpu' if job.device == 'cuda' else 'cpu'}",
        "logger=none",
        "report=none",
        "~callbacks.progress",  # several seeds run side by side
        "+trainer.enable_progress_bar=false",
        f"finetune.max_epochs={level.n_epochs}",
        f"data.holdout_donors=[{held_out}]",
    ]
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = hydra.compose("config", overrides)
    OmegaConf.resolve(cfg)
    bind(cfg)
    return cfg


def write_learnt(work: Workspace, data: Path, file: Path) -> bool:
    """Write what the model and Bayes' classifier make of held-out cells; whether it was done.

    `learnt.parquet` has a row a planted pair, see `learnt_pairs`; `model.json` the accuracies.
    """
    key = settings_hash([work.key("train"), stamp(str(work.checkpoint)), __version__])
    if is_kept(file, key):
        return False
    cells, facts = work.data.part("test"), work.facts
    adata = ad.read_h5ad(data)[cells.obs.index]
    found = learnt_pairs(
        work.loaded.model.eval(),
        work.loaded.tokenizer,
        cells,
        adata.obsm["xor_state"],
        adata.obsm["xor_log_odds"],
        PlantedGenes.of(adata).xor_pairs,
        (facts.target, facts.input, facts.baseline),
        seed=facts.seed,
    )
    case_n = (cells.obs[facts.target] == facts.input).to_numpy()
    metrics = json.loads((work.folder / "metrics.json").read_text())
    accuracies = {
        "accuracy": metrics["test/accuracy"],
        "bayes_accuracy": float(((adata.obs["log_odds"] > 0).to_numpy() == case_n).mean()),
        "n_test": len(cells),
        "n_train": len(work.data.part("train")),
    }
    write_json(accuracies, file.with_name("model.json"))
    write_parquet(found.assign(key=key), file)
    return True


def write_controls(job: SeedJob, work: Workspace, folder: Path) -> bool:
    """Rank by DEG, HVG and expression of the training cells, and at random; whether it was done.

    Training cells are many times the held-out ones, which makes a stronger DEG.
    """
    key = settings_hash([work.key("train"), job.n_random, __version__])
    if is_kept(folder / "controls.parquet", key):
        return False
    cells, facts = work.data.part("train"), work.facts
    rankings = [
        deg_ranking(cells, facts.target, facts.input, facts.baseline),
        hvg_ranking(cells),
        expression_ranking(cells),
        *random_rankings(cells.genes, job.n_random, facts.seed),
    ]
    frame = pd.concat([r.to_pandas("train").assign(method=r.name) for r in rankings])
    frame = frame.assign(arm=NO_MODEL, importance="", flags=None, n_pairs=0, key=key)
    write_parquet(frame, folder / "controls.parquet")
    return True


def write_arm(job: SeedJob, arm: str, work: Workspace, console: Console) -> None:
    """Attribute the arm's pairs by each of its methods, and keep all rankings of each."""
    left = [s for s in work.attributions if not is_kept(_file(job, arm, s), _key(work, s))]
    if not left:
        return
    test = work.data.part("test")
    sampler: PairSampler = build(work.cfg.pairs)
    baseline: BaselineStrategy = build(work.cfg.baseline)
    cells, plan = baseline.arrange(test, sampler.sample(test))
    for settings in left:
        name = settings.method.name
        started = time.perf_counter()
        with timed(Path(job.folder), f"{arm}: {name}") as say:
            say(True)
            # A name of its own for the split, so that arms do not go on with each other's sums.
            found = attribute_pairs(work, settings, cells, plan, f"test-{arm}")
        frame = ranked(work, settings, found, cells)
        frame = frame.assign(arm=arm, n_pairs=len(plan), key=_key(work, settings))
        write_parquet(frame, _file(job, arm, settings))
        seconds = time.perf_counter() - started
        said = f"seed {job.cells_seed}, {arm}: {name}, {len(plan)} pairs in {seconds:.1f} s"
        console.print(said, highlight=False)


def ranked(
    work: Workspace, settings: AttributionSettings, found: Attributed, cells: Cells
) -> pd.DataFrame:
    """Every ranking of one method, with the flags of its genes."""
    flags = flags_of(work, found.sums, cells)
    return pd.concat(
        [
            _rows(ranking, settings.method.name, flags)
            for ranking in rankings_of(work, settings, found.sums)
        ]
    )


def _rows(ranking: GeneRanking, method: str, flags: pd.Series) -> pd.DataFrame:
    importance = ranking.name.partition("/")[2]
    frame = ranking.to_pandas("test").assign(method=method, importance=importance)
    frame["flags"] = frame["gene"].map(flags)
    return frame


def is_kept(file: Path, key: str) -> bool:
    """Whether a table was written there with these very settings."""
    return file.is_file() and bool((pd.read_parquet(file, columns=["key"])["key"] == key).all())


def seconds_of(folder: Path) -> pd.DataFrame:
    """`part, seconds` of what was done for a seed, parts that were done again counted once."""
    lines = pd.DataFrame(read_json_lines(folder / "seconds.jsonl"), columns=["part", "seconds"])
    return lines.drop_duplicates("part", keep="last").reset_index(drop=True)


def _file(job: SeedJob, arm: str, settings: AttributionSettings) -> Path:
    return Path(job.folder) / "rankings" / arm / f"{settings.method.name}.parquet"


def _key(work: Workspace, settings: AttributionSettings) -> str:
    """What a kept ranking is of; unlike `work.key`, not of the other methods beside it."""
    parts = [work.key("train"), stamp(str(work.checkpoint)), work.pooling_key(settings)]
    parts.append(settings.deciding())
    flags = OmegaConf.to_container(work.cfg.flags)
    return settings_hash([*parts, flags, __version__])
