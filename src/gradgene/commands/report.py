"""`gradgene report RUN…`: remake the report of one run, or join several in one table.

gradgene report RUN
    Figures and report.html again; --wandb also logs the run.
gradgene report RUN RUN … [out=FILE.csv|FILE.parquet]
    Figures of each run and medians over runs. Where the runs hold out three donors or more between
    them, also their genes in one table, with intervals over donors; out= writes all of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from gradgene.commands.options import Options
from gradgene.errors import ConfigError, OutputError
from gradgene.genes import DonorScores, pool_donors
from gradgene.reports import RunFiles, wandb, write_figures, write_report
from gradgene.store import atomic_path

__all__ = ["call", "compare_runs", "pooled_genes"]

#: Points of the pruning curves shown when several runs are joined: (order, ratio).
POINTS = (("lowest_first", 0.95), ("highest_first", 0.02))
#: What is printed of the pooled table.
TOP = 15
SHOWN = ["rank", "gene", "score", "ci_low", "ci_high", "p_adjusted", "n_donors", "log_fold_change"]


def call(options: Options) -> None:
    """One folder: figures and `report.html` again. Several: medians over runs, printed."""
    if not options.words:
        raise ConfigError(
            "needs the folder of a run", where="gradgene report", fix="gradgene report runs/demo"
        )
    out = _out(options)
    folders = [Path(word) for word in options.words]
    if len(folders) > 1:  # a sweep's folder also holds Hydra's own files, which a glob names
        folders = [folder for folder in folders if not folder.is_file()]
    runs = [read_run(folder) for folder in folders]
    console = Console(soft_wrap=True)
    if len(runs) == 1:
        if out is not None:
            raise ConfigError("is for several runs", where="out", fix="give more than one folder")
        figures = write_figures(runs[0])
        console.print(f"report:  {write_report(runs[0], figures).resolve().as_uri()}")
        if options.wandb:
            console.print(f"logged to Weights & Biases ({wandb.send(runs[0], figures)})")
        return
    quality, rankings = compare_runs(runs)
    tables = {f"{len(runs)} runs": quality, "median over runs": rankings}
    genes = pooled_genes(runs)
    if genes is not None:
        tables[f"best genes over {genes['n_donors'].max()} donors"] = genes.head(TOP)[SHOWN]
    for title, frame in tables.items():
        table = Table(*frame.columns, title=title)
        for row in frame.itertuples(index=False):
            table.add_row(*(v if isinstance(v, str) else f"{v:.3g}" for v in row))
        console.print(table)
    if out is not None:
        write_pooled(genes, out)
        console.print(f"genes:   {out}")


def _out(options: Options) -> Path | None:
    """The file that `out=` names."""
    out = None
    for override in options.overrides:
        key, _, value = override.partition("=")
        if key != "out":
            raise ConfigError("no such setting", where=key, expected="out=FILE")
        out = Path(value).expanduser()
        if out.suffix not in (".csv", ".parquet"):
            raise ConfigError("no such kind of table", where="out", expected="a .csv or .parquet")
    return out


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
    if len({one.what for one in scores}) > 1:
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
    """Ranking -> figures of one run; random draws are averaged."""
    found: dict[str, dict[str, float]] = {}
    for key, value in (run.metrics or {}).items():
        if key.startswith("recovery/"):
            name, _, top = key.removeprefix("recovery/").rpartition("@")
            found.setdefault(name, {})[f"known of top {top}"] = float(value)
    if run.curves is None:
        return found
    both = run.curves[(run.curves["arm"] == "both") & (run.curves["metric"] == "balanced_accuracy")]
    for order, ratio in POINTS:
        at = both[(both["order"] == order) & ((both["ratio"] - ratio).abs() < 1e-9)]
        label = f"{'keep best' if order == 'lowest_first' else 'drop best'} " + (
            f"{1 - ratio:.0%}" if order == "lowest_first" else f"{ratio:.0%}"
        )
        for ranking, value in at.groupby("ranking")["value"].mean().items():
            found.setdefault(str(ranking), {})[label] = float(value)
    return found
