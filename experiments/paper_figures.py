"""Make the published study's pruning figures anew, on Kang's and the lupus cells.

    python experiments/paper_figures.py [folder=runs/paper_figures] [rank_source=held_out|per_pair]

Runs `gradgene study` for each contrast where that is not done, then draws:

fig_2                   accuracy, lowest first; a row a contrast, a column an arm
fig_7_to_10_<contrast>  accuracy, F1, recall and precision of both arms, lowest first
fig_11_to_14_<contrast> the same, highest first
pruning_<contrast>      balanced accuracy of both arms by every ranking, both orders

Beside them lie the numbers: curves_<contrast>.csv has every point and its interval, a column a
ratio, areas_<contrast>.csv the areas between each ranking and random.

    python experiments/paper_figures.py folder=… from=FOLDER

draws again from the curves_<contrast>.csv in FOLDER and runs nothing; per_pair_kang too, where
FOLDER has curves_per_pair_kang_ifnb.csv.

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
from gradgene.reports import write_picture, write_pictures

EXPERIMENTS = {"kang_ifnb": "IFN-β", "csle_pbmc": "lupus"}
#: The settings of the lupus experiment were chosen on seeds 0, 1 and 2.
SEEDS = {"kang_ifnb": 0, "csle_pbmc": 3}
SOURCES = {"held_out": "ranked on training pairs", "per_pair": "ranked pair by pair"}
#: What is pruned: for the figures, and what the README's picture shows besides.
PUBLISHED = ("grad_x_delta/paper_mean", "grad_x_delta/forward", "deeplift/forward")
BESIDES = ("grad_x_delta/contrast", "grad_x_delta/contrast/abs", "grad_x_delta/paper_geometric")
DRAWN = (*PUBLISHED, "hvg", "random")
MAIN = "deeplift/forward"
BALANCED = "balanced_accuracy"
#: What names a curve.
POINT = ["ranking", "draw", "rank_source", "order", "arm", "metric"]
#: Above it the rankings by the model lie, those of the picture that has them all.
CLOSE_UP = 0.85


def command(experiment: str, folder: Path, rank_source: str) -> list[str]:
    """The line that makes the curves of a contrast; pairs are pruned with the same model."""
    line = [sys.executable, "-m", "gradgene", "study", f"experiment={experiment}"]
    line += [f"study.seed={SEEDS[experiment]}"]
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


def wide(curves: pd.DataFrame) -> pd.DataFrame:
    """The points to be kept, a column a ratio; `what` is the value or an end of its interval."""
    drawn = (curves["arm"] != "both") & curves["metric"].isin(plotting.PAPER_METRICS)
    kept = curves[drawn | (curves["metric"] == BALANCED)]
    ends = ["value", "ci_low", "ci_high"]
    values = kept.melt([*POINT, "ratio"], ends, var_name="what", value_name="end")
    values = values.dropna(subset=["end"])
    return values.pivot(index=[*POINT, "what"], columns="ratio", values="end").reset_index()


def long(points: pd.DataFrame) -> pd.DataFrame:
    """The curves that `wide` was given; the ends of intervals are NaN where there is none."""
    values = points.melt([*POINT, "what"], var_name="ratio", value_name="end")
    curves = values.pivot(index=[*POINT, "ratio"], columns="what", values="end").reset_index()
    curves = curves.assign(ratio=curves["ratio"].astype(float)).dropna(subset=["value"])
    return curves.reindex(columns=[*POINT, "ratio", "value", "ci_low", "ci_high"])


def areas(run: Path) -> pd.DataFrame:
    """Areas between the rankings' curves of both arms and random's."""
    found = pd.read_parquet(run / "pruning" / "summary.parquet")
    chosen = (found["arm"] == "both") & (found["metric"] == BALANCED)
    return found[chosen].round(4)


def draw(curves: dict[str, pd.DataFrame], folder: Path) -> list[Path]:
    """All figures, as PNG and SVG; gives the PNGs. `curves`: name of a contrast -> its curves."""
    published = {name: chosen(frame) for name, frame in curves.items()}
    titles = {name: title for name, title in EXPERIMENTS.items() if name in curves}
    first = contrasts({titles[name]: frame for name, frame in published.items()}, "accuracy")
    rows = list(dict.fromkeys(first["metric"]))
    source = SOURCES[str(first["rank_source"].iloc[0])]
    grid = plotting.pruning_grid
    made = {"fig_2": grid(first, "lowest_first", rows, main=MAIN, title=f"Genes {source}")}
    for name, frame in published.items():
        title = f"{titles[name]}, genes {source}"
        for number, order in (("7_to_10", "lowest_first"), ("11_to_14", "highest_first")):
            made[f"fig_{number}_{name}"] = grid(frame, order, main=MAIN, title=title)
        made[f"pruning_{name}"] = plotting.pruning_orders(
            curves[name], chance=0.5, main=MAIN, close_up=CLOSE_UP if name == "kang_ifnb" else None
        )
    written = []
    for name, figure in made.items():
        written.append(write_pictures(figure, folder / name))
    return written


def measure(folder: Path, rank_source: str, out: Path) -> None:
    """Run what is not done and write its tables to `out`."""
    for experiment in EXPERIMENTS:
        for source in dict.fromkeys(["held_out", rank_source]):
            line = command(experiment, folder, source)
            subprocess.run(line, check=True)
        run = Path(line[-1].removeprefix("paths.output_dir="))
        curves = wide(pd.read_parquet(run / "pruning" / "curves.parquet"))
        out.mkdir(parents=True, exist_ok=True)
        curves.round(4).to_csv(out / f"curves_{experiment}.csv", index=False)
        areas(run).to_csv(out / f"areas_{experiment}.csv", index=False)


def main(words: list[str]) -> None:
    """Run what is not done, or read what was kept, and draw."""
    given = dict(word.split("=", 1) for word in words)
    folder = Path(given.pop("folder", "runs/paper_figures"))
    rank_source = given.pop("rank_source", "held_out")
    kept = given.pop("from", None)
    if given or rank_source not in SOURCES:
        raise SystemExit(__doc__)
    out = folder if rank_source == "held_out" else folder / rank_source
    if kept is None:
        measure(folder, rank_source, out)
    tables = out if kept is None else Path(kept)
    curves = {name: long(pd.read_csv(tables / f"curves_{name}.csv")) for name in EXPERIMENTS}
    files = draw(curves, out)
    pairs = tables / "curves_per_pair_kang_ifnb.csv"
    if pairs.is_file():
        figure = plotting.pruning_orders(long(pd.read_csv(pairs)), chance=0.5, main=MAIN)
        files.append(write_picture(figure, out / "per_pair_kang.png"))
    for file in files:
        print(file)


if __name__ == "__main__":
    main(sys.argv[1:])
