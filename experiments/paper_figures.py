"""Make the published study's pruning figures anew, on Kang's and the lupus cells.

    python experiments/paper_figures.py [folder=runs/paper_figures] [rank_source=held_out|per_pair]

Runs `gradgene study` for each contrast where that is not done, then draws:

fig_2                   accuracy, lowest first; a row a contrast, a column an arm
fig_7_to_10_<contrast>  accuracy, F1, recall and precision of both arms, lowest first
fig_11_to_14_<contrast> the same, highest first

The lines are those of the published figures, importance, forward, HVG and random, once with the
method as published (gradient x difference) and once complete DeepLIFT. With rank_source=per_pair
genes are ranked on the very pairs that are then pruned, as was published: those curves leak the
label and say so, beside what random weights reach in the same way.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd

from gradgene import plotting
from gradgene.pruning import RANDOM_WEIGHTS
from gradgene.reports import write_picture

EXPERIMENTS = {"kang_ifnb": "IFN-β", "csle_pbmc": "lupus"}
#: What is pruned: for the figures, and what the README's picture shows besides.
PUBLISHED = ("grad_x_delta/paper_mean", "grad_x_delta/forward", "deeplift/forward")
BESIDES = ("grad_x_delta/contrast", "grad_x_delta/contrast/abs", "grad_x_delta/paper_geometric")
DRAWN = (*PUBLISHED, "hvg", "random")
MAIN = "deeplift/forward"


def command(experiment: str, folder: Path, rank_source: str) -> list[str]:
    """The line that makes the curves of a contrast; pairs are pruned with the same model."""
    line = [sys.executable, "-m", "gradgene", "study", f"experiment={experiment}"]
    line += ["pruning=full_grid", "evaluation=none", "logger=none"]
    trained = folder / experiment
    if rank_source == "held_out":
        line.append(f"pruning.rankings=[{','.join((*PUBLISHED, *BESIDES))}]")
        return [*line, f"paths.output_dir={trained}"]
    line += [f"pruning.rankings=[{','.join(PUBLISHED)}]", "pruning.controls=[hvg,random]"]
    line += [f"checkpoint.path={trained}", "pruning.n_random=3", "pairs.max_pairs=500"]
    return [
        *line,
        f"pruning.rank_source={rank_source}",
        f"paths.output_dir={trained}_{rank_source}",
    ]


def chosen(curves: pd.DataFrame) -> pd.DataFrame:
    """The lines of the figures; intervals end where these metrics do."""
    # What random weights reach per pair is named after the ranking it is the null of.
    drawn = curves[curves["ranking"].str.removesuffix(RANDOM_WEIGHTS).isin(DRAWN)]
    return drawn.assign(ci_low=drawn["ci_low"].clip(0, 1), ci_high=drawn["ci_high"].clip(0, 1))


def contrasts(curves: dict[str, pd.DataFrame], metric: str) -> pd.DataFrame:
    """One metric of several contrasts, each contrast as a metric of its own."""
    return pd.concat(
        [
            frame[frame["metric"] == metric].assign(metric=f"{metric.capitalize()}, {name}")
            for name, frame in curves.items()
        ]
    )


def draw(curves: dict[str, pd.DataFrame], folder: Path) -> list[Path]:
    """All figures, as PNG and SVG; gives the PNGs. `curves`: name of a contrast -> its curves."""
    first = contrasts(curves, "accuracy")
    rows = list(dict.fromkeys(first["metric"]))
    made = {"fig_2": plotting.pruning_grid(first, "lowest_first", rows, main=MAIN)}
    for name, frame in curves.items():
        for number, order in (("7_to_10", "lowest_first"), ("11_to_14", "highest_first")):
            short = next(key for key, title in EXPERIMENTS.items() if title == name)
            made[f"fig_{number}_{short}"] = plotting.pruning_grid(frame, order, main=MAIN)
    written = []
    for name, figure in made.items():
        write_picture(figure, folder / f"{name}.svg")
        written.append(write_picture(figure, folder / f"{name}.png"))
    return written


def main(words: list[str]) -> None:
    """Run what is not done and draw."""
    given = dict(word.split("=", 1) for word in words)
    folder = Path(given.pop("folder", "runs/paper_figures"))
    rank_source = given.pop("rank_source", "held_out")
    if given or rank_source not in ("held_out", "per_pair"):
        raise SystemExit(__doc__)
    curves = {}
    for experiment, title in EXPERIMENTS.items():
        for source in dict.fromkeys(["held_out", rank_source]):
            line = command(experiment, folder, source)
            subprocess.run(line, check=True)
        run = Path(line[-1].removeprefix("paths.output_dir="))
        frame = pd.read_parquet(run / "pruning" / "curves.parquet")
        curves[title] = chosen(frame)
    for file in draw(curves, folder if rank_source == "held_out" else folder / rank_source):
        print(file)


if __name__ == "__main__":
    main(sys.argv[1:])
