"""Make the tables of an experiment.

python experiments/tables.py RUN [RUN …] [out=FOLDER]
    Print the quality of each run and the medians of every ranking as Markdown. out=FOLDER also
    writes CSVs there: the best genes of every run (genes_top30.csv) and, where the first run has
    been pruned, its areas and curves (pruning_areas_seed0.csv, pruning_curves_seed0.csv by its
    seed): balanced accuracy of both arms, draws averaged.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gradgene.commands.report.command import read_run
from gradgene.commands.report.tables import median_rankings
from gradgene.errors import ConfigError, GradgeneError, OutputError
from gradgene.reports import RunFiles
from gradgene.store import atomic_path

#: Rankings that are the same numbers as another one under this target and baseline.
SAME = ("own_label", "deeplift/contrast", "deeplift/backward", "paper_geometric/abs")
#: How many best genes are written, what of them, and to how many decimals.
TOP = 30
GENES = ("rank", "gene", "score", "embedding", "presence", "direction", "log_fold_change")
DECIMALS = 4


def markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, numbers to three digits."""
    rows = [list(frame.columns), ["---"] * frame.shape[1]]
    for values in frame.itertuples(index=False):
        rows.append([v if isinstance(v, str) else f"{v:.3g}" for v in values])
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def quality(runs: Sequence[RunFiles]) -> pd.DataFrame:
    """A row a figure of the model and of its attributions, a column a run, and the median."""
    names = [run.path.name for run in runs]
    keys = dict.fromkeys(key for run in runs for key in run.metrics or {})
    wanted = [k for k in keys if k.startswith(("test/", "attribution/"))]
    found = pd.DataFrame([{k: (r.metrics or {}).get(k) for k in wanted} for r in runs], names).T
    return found.assign(median=found.median(axis=1)).rename_axis("figure").reset_index()


def best_genes(runs: Sequence[RunFiles]) -> pd.DataFrame:
    """The best genes of each run, one run below the other, told apart by `seed`."""
    parts = []
    for run in runs:
        if run.ranked_genes is None:
            raise OutputError("has no gene table", where=str(run.path), fix="run `gradgene study`")
        kept = run.ranked_genes.head(TOP)
        kept = kept[[name for name in GENES if name in kept]]
        parts.append(kept.assign(seed=run.study.get("seed", 0)))
    table = pd.concat(parts, ignore_index=True)
    return table[["seed", *table.columns.drop("seed")]]


def pruning_tables(run: RunFiles) -> dict[str, pd.DataFrame]:
    """File name -> areas, and curves with a column a share removed; none of an unpruned run."""
    if run.summary is None or run.curves is None:
        return {}
    areas, curves = (
        frame[(frame["arm"] == "both") & (frame["metric"] == "balanced_accuracy")]
        for frame in (run.summary, run.curves)
    )
    wide = curves.pivot_table(index=["ranking", "order"], columns="ratio", values="value")
    seed = run.study.get("seed", 0)
    return {
        f"pruning_areas_seed{seed}.csv": areas,
        f"pruning_curves_seed{seed}.csv": wide.reset_index(),
    }


def write(runs: Sequence[RunFiles], folder: Path) -> list[Path]:
    """Write the CSVs of the runs into `folder`; gives them."""
    tables = {f"genes_top{TOP}.csv": best_genes(runs), **pruning_tables(runs[0])}
    for name, table in tables.items():
        with atomic_path(folder / name) as temporary:
            table.round(DECIMALS).to_csv(temporary, index=False)
    return [folder / name for name in tables]


def main(words: Sequence[str]) -> int:
    """Print the tables, and write them where a folder is named; gives the exit code."""
    try:
        folders = [word for word in words if not word.startswith("out=")]
        out = [word.removeprefix("out=") for word in words if word.startswith("out=")]
        if not folders or len(out) > 1:
            raise ConfigError("RUN [RUN …] [out=FOLDER] is expected", where="tables.py")
        runs = [read_run(Path(folder)) for folder in folders]
        rankings = median_rankings(runs)
        distinct = [not any(same in name for same in SAME) for name in rankings["ranking"]]
        print(markdown(quality(runs)), markdown(rankings[distinct]), sep="\n\n")
        for file in write(runs, Path(out[0])) if out else ():
            print(file)
    except GradgeneError as error:
        print(f"tables.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
