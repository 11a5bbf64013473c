"""Measure speed, memory and truth; nothing is asserted, every goal is shown beside it.

gradgene benchmark attribution [KEY=VALUE ...]
    Trains a model briefly on synthetic cells and runs every attribution method on the same pairs,
    each in a process of its own: seconds a pair (both directions), peak memory, relative delta and
    swap-gap, beside Captum called pair by pair; then the ratios that have goals, on long cells.
      genes=2500             genes of the cells' panel
      short_genes=60         genes of a short cell, on average; every method runs on short pairs
      short_pairs=16         pairs of short cells
      repeats=1              timed runs on short pairs; methods of one run a gene are timed once
      long_genes=1000        genes of a long cell, on average
      long_pairs=2           pairs of long cells
      turns=2                turns of each on long cells; the median counts
      inputs=64              input cells, and as many controls, of the pairs that share cells
      baselines=16           controls that each of these inputs is paired with
      captum_pairs=2         of those pairs, how many Captum is timed on
      n_steps=20             steps of methods with a path
      dim=256                width of the model
      n_layers=6
      n_heads=8
      hidden_dim=1024
      train_cells=2000       cells that the model learns from
      train_steps=200        steps of 16 cells (0: random weights)
      train_genes=50         genes shown of a cell in a step
      memory=false           also the memory of deeplift at several lengths, and what follows
      memory_genes=[500,1000,1500,2000]
      memory_layers=[2,4]
      memory_pairs=8
      memory_dim=768
      memory_heads=12
      full=false             also one run of it at 3,500 genes and 12 layers (about an hour)
      device=cpu             cpu | cuda (the one that CUDA_VISIBLE_DEVICES leaves)
      threads=null           threads of torch (null: as many as it takes by itself)
      seed=0
      output_dir=runs/benchmark_attribution

gradgene benchmark data [KEY=VALUE ...]
    Writes synthetic cells in shards, streams one shuffled epoch of them through the loader of
    pretraining in a process of its own, and tokenises long cells against a loop over an AnnData.
      cells=1000000          cells written and streamed
      shards=20              files they are spread over
      genes=20000            genes of a file
      genes_per_cell=300     genes that a streamed cell expresses, on average
      batch_tokens=16384     tokens of a streamed batch, padding included
      fetch_cells=2048       cells read and tokenised together
      block_cells=32         neighbouring cells that stay together in the shuffling
      workers=0              loader processes
      tokenise_cells=4000    cells tokenised
      tokenise_genes=2000    genes that a tokenised cell expresses, on average
      tokenise_batch=256     cells tokenised at a time
      loop_cells=400         of the cells tokenised, those that the loop is timed on
      keep=false             keep the shards
      folder=null            where the shards go (null: the system's folder for temporary files)
      seed=0
      output_dir=runs/benchmark_data

gradgene benchmark pruning [KEY=VALUE ...]
    Prunes pairs of synthetic cells by five rankings (HVG, DEG, expression, two random orders) in
    both orders on the paper's grid, by pair and by panel, and times a few of them one at a time as
    the paper's code goes about it: files read and cells tokenised again for each ranking and order,
    the whole model run on one cell after the other.
      pairs=500              pairs
      genes=2000             genes of the panel
      genes_per_cell=510     about the mean number of genes a cell expresses
      ratios=[0.0,0.1,0.15,0.2,0.25,0.3,0.35,0.4,0.45,0.5,0.55,0.6,0.65,0.7,0.75,0.8,0.85,0.9,0.95,0.99]
      loop_pairs=4           of them, how many are timed one at a time
      batch_tokens=4096      padded tokens per forward pass
      dim=64                 width of the model, whose weights are random
      n_layers=2
      n_heads=4
      hidden_dim=256
      device=cpu             cpu | cuda (the one that CUDA_VISIBLE_DEVICES leaves)
      threads=null           threads of torch (null: as many as it takes by itself)
      seed=0
      output_dir=runs/benchmark_pruning

gradgene benchmark training [KEY=VALUE ...]
    Trains the same model on the same batches by Lightning, as `gradgene train` does, and by
    transformers.Trainer (pip install 'gradgene[benchmark]'), in turns.
      experiment=demo        whose cells (demo: bundled ones)
      model=tiny             leaf of the group `model`
      steps=50               steps timed
      warm_up=5              steps before the clock starts
      batch_size=32          cells a step
      genes_per_cell=150     genes read of a cell, at most
      repeats=5              turns of each; the median counts
      memory=true            also the memory of each, in a process of its own
      variants=true          also activation checkpointing and torch.compile
      device=cpu             cpu | cuda (the one that CUDA_VISIBLE_DEVICES leaves)
      precision=32-true      32-true | bf16-mixed
      threads=null           threads of torch (null: as many as it takes by itself)
      seed=0
      output_dir=runs/benchmark_training

gradgene benchmark truth [KEY=VALUE ...]
    Plants genes that decide the label of synthetic cells, trains a model on them, and judges every
    method, importance and baseline, and DEG, HVG, expression and chance (of training cells), by
    what each finds. Planted pairs that a model has not learnt are held against no ranking. Given
    again, it goes on where it was.
      level=default          whose difficulty: smoke (a minute) | easy | default | hard
      seeds=null             simulations, each with a model (null: 3; of smoke 1)
      first_seed=1000        seed of the first simulation; from 1000 on they are the frozen test
      methods=[]             attribution leaves (none: all; of smoke four)
      arms=[]                some of cell_state, mean, empty, zero, unmatched (none: all; of smoke
                             two). In `unmatched` the batch is not matched on
      pairs=null             held-out pairs of cell_state, unmatched (null: as the level says)
      other_pairs=150        held-out pairs of the other arms; no more than pairs
      n_random=20            random orders
      jobs=null              seeds side by side (null: as many as there are cores)
      device=cpu             cpu | cuda (the one that CUDA_VISIBLE_DEVICES leaves)
      threads=1              threads of torch, of each seed
      seed=0                 of the first model; the next have the next
      output_dir=runs/benchmark_truth
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from gradgene.commands.benchmark.figures import Findings, machine, read_settings
from gradgene.commands.line.console import Console
from gradgene.commands.line.options import Options
from gradgene.errors import ConfigError, closest
from gradgene.reports import write_pictures
from gradgene.seeding import seed_everything
from gradgene.store import atomic_path, require_writable, write_json

__all__ = ["BENCHMARKS", "call", "show", "write"]

#: Word -> module with the dataclass `Settings` and `measure(settings, console)`.
BENCHMARKS = {
    "attribution": "gradgene.commands.benchmark.attribution",
    "data": "gradgene.commands.benchmark.data",
    "pruning": "gradgene.commands.benchmark.pruning",
    "training": "gradgene.commands.benchmark.training",
    "truth": "gradgene.commands.benchmark.truth",
}


def call(options: Options) -> None:
    """Run one benchmark, print its figures and write them under `output_dir`."""
    name = options.words[0] if options.words else ""
    if name not in BENCHMARKS or len(options.words) != 1:
        raise ConfigError(
            "needs the name of one benchmark",
            where="gradgene benchmark",
            expected=f"one of {closest(name, BENCHMARKS)}",
            found=" ".join(options.words) or None,
            fix="gradgene benchmark data cells=100000",
        )
    module = importlib.import_module(BENCHMARKS[name])
    settings = read_settings(module.Settings, options.overrides, f"benchmark {name}")
    folder = Path(settings.output_dir).expanduser()
    require_writable(folder)
    seed_everything(settings.seed)
    console = Console(soft_wrap=True)
    given = asdict(settings)
    facts = machine(given.get("device", "cpu"), settings.seed, given.get("threads"))
    findings: Findings = module.measure(settings, console)
    write(folder, {"benchmark": name, "settings": given, "machine": facts}, findings)
    console.print(show(name, facts, findings))
    console.print(f"results: {folder}")


def write(folder: Path, head: Mapping[str, Any], findings: Findings) -> None:
    """Write `benchmark.json`, `figures.csv`, a CSV a raw table, a PNG and an SVG a picture."""
    figures = findings.table()
    plain = figures.astype(object).where(figures.notna(), None).to_dict("records")
    write_json({**head, "figures": plain}, folder / "benchmark.json")
    for name, table in {"figures": figures, **findings.tables}.items():
        _write_csv(table, folder / f"{name}.csv")
    for name, picture in findings.pictures.items():
        write_pictures(picture, folder / name)


def show(name: str, facts: Mapping[str, Any], findings: Findings) -> Table:
    """The figures as a table for the terminal; "no" marks a goal that was missed."""
    where = f"{facts['processor']}, {facts['cores']} cores, {facts['threads']} threads"
    title = f"benchmark {name}: {where}, torch {facts['packages']['torch']}, {facts['device']}"
    table = Table("", "figure", title=title)
    table.add_column("value", justify="right")
    for heading in ("", "goal", "met", "note"):
        table.add_column(heading)
    part = None
    for figure in findings.figures:
        value = "-" if figure.value is None else _spell(figure.value)
        met = {None: "", True: "yes", False: "[bold]no[/]"}[figure.met]
        first = "" if figure.part == part else figure.part
        table.add_row(first, figure.name, value, figure.unit, figure.goal, met, figure.note)
        part = figure.part
    return table


def _spell(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:.3g}"


def _write_csv(table: pd.DataFrame, file: Path) -> None:
    with atomic_path(file) as temporary:
        table.to_csv(temporary, index=False)
