"""`gradgene report RUN…`: remake the report of one run, or set several side by side.

gradgene report RUN
    Figures and report.html again.
gradgene report SWEEP
    The runs of a sweep (the folder that `gradgene study -m …` wrote) on one page, sweep.html in
    that folder, with tables and figures beside it: runs.csv has a row a run, its settings and
    figures. `gradgene report SWEEP/*` does the same. The report of a run in the same folder is
    made again too.
gradgene report RUN RUN … [out=FILE.csv|FILE.parquet|FOLDER] [figure=FILE.png|FILE.svg]
    Figures of each run and medians over runs. Where the runs hold out three donors or more between
    them, also their genes in one table, with intervals over donors. out=FILE writes that table,
    out=FOLDER all of it and the page; figure= the pruning curves of all runs.
--wandb
    Also log the runs to Weights & Biases, several as one group, and lay out a workspace of it.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from gradgene.commands.line.options import Options
from gradgene.commands.report.agreement import run_agreement
from gradgene.commands.report.curves import joined_curves
from gradgene.commands.report.page import draw_curves, join_runs, write_page
from gradgene.commands.report.sweep import Sweep, find_sweep
from gradgene.commands.report.tables import median_rankings, print_runs, write_tables
from gradgene.commands.report.wandb import send_runs
from gradgene.errors import ConfigError, OutputError
from gradgene.genes import DonorScores, pool_donors
from gradgene.reports import RunFiles, run_table, write_figures, write_report
from gradgene.store import atomic_path

__all__ = ["call", "pooled_genes", "read_run"]


def call(options: Options) -> None:
    """One folder: figures and `report.html` again. Several, or a sweep: the runs side by side."""
    if not options.words:
        raise ConfigError(
            "needs the folder of a run", where="gradgene report", fix="gradgene report runs/demo"
        )
    out, figure = _written(options)
    console = Console(soft_wrap=True)
    sweep = find_sweep(options.words)
    if sweep is not None:
        runs = _join(sweep, out, figure, _line(options), console)
        if options.wandb:
            send_runs(runs, console)
        alone = sweep.folder if len(options.words) == 1 else None
        if alone is None or not (alone / "config.yaml").is_file():
            return
        console.print("a run of its own is in this folder too:")
    elif out is not None or figure is not None:
        where = "figure" if out is None else "out"
        raise ConfigError("is for several runs", where=where, fix="give more than one folder")
    run = read_run(Path(options.words[0]))
    figures = write_figures(run)
    console.print(f"report:  {write_report(run, figures).resolve().as_uri()}")
    if options.wandb:
        send_runs([run], console, figures)


def _join(
    sweep: Sweep, out: Path | None, figure: Path | None, line: str, console: Console
) -> list[RunFiles]:
    """Print the runs side by side; write tables, figures and a page where there is a place."""
    runs = [read_run(folder) for folder in sweep.runs]
    folder = sweep.folder if out is None else None if out.suffix else out
    curves = joined_curves(runs)
    if figure is not None and curves is None:
        raise OutputError(
            "none of these runs has a pruning curve of its ranking",
            where="figure",
            fix="run `gradgene prune` in them first",
        )
    over_runs = {
        "rankings": median_rankings(runs),
        "genes": pooled_genes(runs),
        "agreement": run_agreement(runs),
    }
    joined = join_runs(sweep, runs, over_runs, line)
    print_runs(joined, console, written=folder is not None)
    if out is not None and out.suffix:
        write_pooled(joined.genes, out)
        console.print(f"genes:   {out}")
        figure = figure or out.with_name(f"{out.stem}_pruning.png")
    if folder is not None:
        table = run_table(joined, folder)
        write_tables({"runs": table, "pruning": curves, **over_runs}, folder)
        console.print(f"tables:  {folder}")
        page = write_page(joined, curves, folder)
        console.print(f"report:  {page.resolve().as_uri()}")
        if curves is not None:
            console.print(f"figure:  {folder / 'pruning.png'}")
    if figure is not None and curves is not None:
        console.print(f"figure:  {draw_curves(runs, curves, figure)}")
    return runs


def _line(options: Options) -> str:
    """The command line again, as one types it."""
    return shlex.join(["gradgene", "report", *options.words, *options.overrides])


def _written(options: Options) -> tuple[Path | None, Path | None]:
    """What `out=` and `figure=` name: a table or a folder, and a picture."""
    kinds = {"out": ("", ".csv", ".parquet"), "figure": (".png", ".svg")}
    found: dict[str, Path] = {}
    for override in options.overrides:
        key, _, value = override.partition("=")
        if key not in kinds:
            raise ConfigError("no such setting", where=key, expected="out=FILE or figure=FILE")
        found[key] = Path(value).expanduser()
        if found[key].suffix not in kinds[key]:
            raise ConfigError(
                f"no such kind of {'table' if key == 'out' else 'picture'}",
                where=key,
                expected="a .csv, a .parquet or a folder" if key == "out" else "a .png or .svg",
                found=found[key].suffix,
            )
    return found.get("out"), found.get("figure")


def pooled_genes(runs: list[RunFiles]) -> pd.DataFrame | None:
    """The genes of all runs with intervals over all their donors; see `pool_donors`.

    Adds `log_fold_change`, its mean over runs by their pairs, and `direction`. None where the runs
    have no donors or differ in more than seed, donors held out and model.
    """
    files = [run.path / "attributions" / "donors.parquet" for run in runs]
    scores, changes = [], []
    for file, run in zip(files, runs, strict=True):
        if not file.is_file() or run.pairs is None or run.genes is None:
            return None
        scores.append(DonorScores.from_table(pd.read_parquet(file)))
        changes.append(run.genes[["gene", "log_fold_change"]].assign(pairs=len(run.pairs)))
    if len({one.score_key for one in scores}) > 1:
        return None
    pooled = pool_donors(scores)
    known = pd.concat(changes).dropna()
    known["log_fold_change"] *= known["pairs"]
    sums = known.groupby("gene")[["log_fold_change", "pairs"]].sum()
    change = pooled["gene"].map(sums["log_fold_change"] / sums["pairs"])
    direction = np.select([change > 0, change < 0], ["up", "down"], default="–")
    return pooled.assign(log_fold_change=change, direction=direction)


def write_pooled(genes: pd.DataFrame | None, out: Path) -> None:
    """Write the pooled table as CSV or parquet, as the name of the file says."""
    if genes is None:
        raise OutputError(
            "these runs have no scores of donors that can be pooled",
            where="out",
            expected="runs with study.donor that differ in seed, held-out donors or model alone",
        )
    with atomic_path(out) as temporary:
        if out.suffix == ".csv":
            genes.to_csv(temporary, index=False)
        else:
            genes.to_parquet(temporary, index=False)


def read_run(folder: Path) -> RunFiles:
    """The files of a run; raises `OutputError` if the folder holds none."""
    if not (folder / "config.yaml").is_file():
        raise OutputError(
            "is not the folder of a run",
            where=str(folder),
            expected="a folder with config.yaml, as `gradgene study` leaves it",
        )
    return RunFiles.read(folder)
