"""Make the tables of an experiment: python experiments/tables.py RUN [RUN …]."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from gradgene.commands.report import compare_runs, read_run

#: Rankings that are the same numbers as another one under this target and baseline.
SAME = ("own_label", "deeplift/contrast", "deeplift/backward", "paper_geometric/abs")


def markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, numbers to three digits."""
    rows = [list(frame.columns), ["---"] * frame.shape[1]]
    for values in frame.itertuples(index=False):
        rows.append([v if isinstance(v, str) else f"{v:.3g}" for v in values])
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def main(folders: list[str]) -> None:
    """Print the quality of each run and the medians of every ranking."""
    runs = [read_run(Path(folder)) for folder in folders]
    quality, rankings = compare_runs(runs)
    distinct = [not any(same in name for same in SAME) for name in rankings["ranking"]]
    print(markdown(quality), markdown(rankings[distinct]), sep="\n\n")


if __name__ == "__main__":
    main(sys.argv[1:])
