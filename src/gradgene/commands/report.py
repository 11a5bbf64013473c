"""`gradgene report RUN…`: remake the report of one run, or set several side by side.

gradgene report RUN
    Figures and report.html again.
gradgene report SWEEP
    The runs of a sweep (the folder that `gradgene study -m …` wrote) on one page, sweep.html in
    that folder, with tables and figures beside it. `gradgene report SWEEP/*` does the same.
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
from rich.table import Table

from gradgene.commands.options import Options
from gradgene.commands.report_agreement import run_agreement
from gradgene.commands.report_curves import joined_curves
from gradgene.commands.report_page import draw_curves, write_page
from gradgene.commands.report_sweep import Sweep, find_sweep
from gradgene.commands.report_wandb import send_runs
from gradgene.errors import ConfigError, OutputError
from gradgene.genes import DonorScores, pool_donors
from gradgene.plotting import mark_leaks
from gradgene.reports import RunFiles, write_figures, write_report
from gradgene.reports.headline import JUDGED_AT
from gradgene.store import atomic_path

__all__ = ["call", "compare_runs", "pooled_genes"]

#: What is printed of the pooled table.
TOP = 15
SHOWN = ["rank", "gene", "score", "ci_low", "ci_high", "p_adjusted", "n_donors", "log_fold_change"]


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
        return
    run = read_run(Path(options.words[0]))
    for key, value in (("out", out), ("figure", figure)):
        if value is not None:
            raise ConfigError("is for several runs", where=key, fix="give more than one folder")
    figures = write_figures(run)
    console.print(f"report:  {write_report(run, figures).resolve().as_uri()}")
    if options.wandb:
        send_runs([run], console, figures)


def _join(
    sweep: Sweep, out: Path | None, figure: Path | None, line: str, console: Console
) -> list[RunFiles]:
    """Print the runs side by side; write tables, figures and a page where there is a place."""
    runs = [read_run(folder) for folder in sweep.runs]
    quality, rankings = compare_runs(runs)
    tables = {
        "runs": quality,
        "rankings": rankings,
        "genes": pooled_genes(runs),
        "pruning": joined_curves(runs),
        "agreement": run_agreement(runs),
    }
    curves = tables["pruning"]
    if figure is not None and curves is None:
        raise OutputError(
            "none of these runs has a pruning curve of its ranking",
            where="figure",
            fix="run `gradgene prune` in them first",
        )
    _print(tables, len(runs), console)
    if out is not None and out.suffix:
        write_pooled(tables["genes"], out)
        console.print(f"genes:   {out}")
        figure = figure or out.with_name(f"{out.stem}_pruning.png")
    elif out is not None or sweep.folder is not None:
        folder = out or sweep.folder or Path()
        write_tables(tables, folder)
        console.print(f"tables:  {folder}")
        page = write_page(sweep, runs, tables, folder, line)
        console.print(f"report:  {page.resolve().as_uri()}")
        if curves is not None:
            console.print(f"figure:  {folder / 'pruning.png'}")
    if figure is not None and curves is not None:
        console.print(f"figure:  {draw_curves(runs, curves, figure)}")
    return runs


def _print(tables: dict[str, pd.DataFrame | None], n_runs: int, console: Console) -> None:
    genes = tables["genes"]
    printed = {
        f"{n_runs} runs": tables["runs"],
        "median over runs": tables["rankings"],
        "agreement of the runs": tables["agreement"],
    }
    if genes is not None:
        printed[f"best genes over {genes['n_donors'].max()} donors"] = genes.head(TOP)[SHOWN]
    for title, frame in printed.items():
        if frame is None:
            continue
        table = Table(*frame.columns, title=title)
        for row in frame.itertuples(index=False):
            table.add_row(*(v if isinstance(v, str) else f"{v:.3g}" for v in row))
        console.print(table)


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


def write_tables(tables: dict[str, pd.DataFrame | None], folder: Path) -> None:
    """Write every table that there is to `<folder>/<name>.csv`."""
    for name, frame in tables.items():
        if frame is not None:
            with atomic_path(folder / f"{name}.csv") as temporary:
                frame.to_csv(temporary, index=False)


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


def compare_runs(runs: list[RunFiles]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Quality of each run, and medians over runs of every ranking.

    Returns a table `figure, <run>…, median` and a table `ranking, known genes, keep 5 %, drop
    2 %` (balanced accuracy of both arms), best first.
    """
    names = [run.path.name for run in runs]
    keys = dict.fromkeys(key for run in runs for key in run.metrics or {})
    wanted = [k for k in keys if k.startswith(("test/", "attribution/"))]
    quality = pd.DataFrame([{k: (r.metrics or {}).get(k) for k in wanted} for r in runs], names).T
    quality = quality.assign(median=quality.median(axis=1)).rename_axis("figure").reset_index()
    rows = []
    for run in runs:
        for ranking, values in ranking_row(run).items():
            rows.append({"ranking": ranking, **values})
    if not rows:  # none of the runs has been pruned yet
        return quality, pd.DataFrame(columns=["ranking"])
    medians = pd.DataFrame(rows).groupby("ranking").median().reset_index()
    return quality, medians.sort_values(list(medians.columns[1:2]), ascending=False)


def ranking_row(run: RunFiles) -> dict[str, dict[str, float]]:
    """Ranking -> figures of one run; random draws are averaged, leaking rankings marked."""
    found: dict[str, dict[str, float]] = {}
    for name, top, value in run.recovered:
        found.setdefault(name, {})[f"known of top {top}"] = float(value)
    if run.curves is None:
        return found
    curves = mark_leaks(run.curves)
    both = curves[(curves["arm"] == "both") & (curves["metric"] == "balanced_accuracy")]
    for order, ratio in JUDGED_AT.items():
        at = both[(both["order"] == order) & ((both["ratio"] - ratio).abs() < 1e-9)]
        label = f"{'keep best' if order == 'lowest_first' else 'drop best'} " + (
            f"{1 - ratio:.0%}" if order == "lowest_first" else f"{ratio:.0%}"
        )
        for ranking, value in at.groupby("ranking")["value"].mean().items():
            found.setdefault(str(ranking), {})[label] = float(value)
    return found
