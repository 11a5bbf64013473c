"""`gradgene report RUN… --wandb`: finished runs to Weights & Biases, and a dashboard of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from gradgene.errors import ConfigError
from gradgene.reports import RunFiles, wandb
from gradgene.reports.tracked import best_validation, stage_figures
from gradgene.reports.wandb_dashboard import lay_out, require_workspaces

__all__ = ["send_runs"]


def send_runs(
    runs: Sequence[RunFiles], console: Console, figures: Mapping[str, Path] | None = None
) -> None:
    """Send finished runs as one group, and lay out a workspace of it where W&B is online.

    Parameters
    ----------
    runs
        The runs, one or several. Their group is the name of the study, of several studies the
        names with `+` between them.
    console
        Told what became of it.
    figures
        Figure name -> PNG of the one run; by default those that the runs' folders hold.
    """
    leaf = runs[0].section("logger").get("wandb") or {}
    names = dict.fromkeys(_group(run) for run in runs)
    group = "+".join(names)
    modes = [wandb.send(run, figures if figures is not None else drawn(run), group) for run in runs]
    online = all(mode == "online" for mode in modes)
    said = f"logged to Weights & Biases ({'online' if online else modes[-1]}), group {group}"
    console.print(said, markup=False)
    if "disabled" in modes:
        return
    try:
        require_workspaces()
    except ConfigError as error:
        console.print(f"no dashboard: {error}", markup=False)
        return
    entity = leaf.get("entity")
    address = lay_out(str(leaf.get("project", "gradgene")), group, known_figures(runs), entity)
    if address is not None:
        console.print(f"dashboard: {address}", markup=False)
        return
    folders = " ".join(f"{run.path}/wandb/offline-run-*" for run in runs)
    console.print(
        f"no dashboard while offline: after `wandb login` and `wandb sync {folders}` the same "
        "command lays it out and draws the lineage",
        markup=False,
    )


def _group(run: RunFiles) -> str:
    """The group that the run's stages were logged to."""
    leaf, sweep = run.section("logger").get("wandb") or {}, run.section("sweep")
    group = leaf.get("group") or sweep.get("group") or run.study.get("name")
    return str(group or run.path.name)


def drawn(run: RunFiles) -> dict[str, Path]:
    """The figures in the folder of a run by name."""
    return {file.stem: file for file in sorted((run.path / "figures").glob("*.png"))}


def known_figures(runs: Sequence[RunFiles]) -> list[str]:
    """Names of everything the runs can be sorted by."""
    names: dict[str, None] = {}
    for run in runs:
        names |= dict.fromkeys([*(run.metrics or {}), *best_validation(run)])
        names |= dict.fromkeys(stage_figures(run, "prune", ("pruning/",)))
    return [*names]
