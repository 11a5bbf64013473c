"""A W&B workspace for the runs of one study: which is best, what it learnt, which genes matter.

It is laid out without a network, and saved where W&B is online. The layout is made by the package
wandb-workspaces (extra `dashboards`).

(Inside this file `wandb` is the installed package, not the module beside it.)
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from typing import Any

import wandb

from gradgene.errors import require_extra
from gradgene.provenance import redacted
from gradgene.reports.wandb import wandb_mode
from gradgene.reports.wandb_artifacts import draw_lineage

__all__ = ["lay_out", "require_workspaces", "workspace"]

_log = logging.getLogger(__name__)
#: What runs are sorted by, and what stands beside it in the table of runs.
BEST = "val/balanced_accuracy"
BESIDE = ("test/balanced_accuracy", "test/contrast_balanced_accuracy")


def require_workspaces() -> None:
    """Refuse a dashboard where wandb-workspaces is not installed, before anything is sent.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    require_extra("dashboards", "wandb_workspaces", where="--wandb")


def workspace(entity: str, project: str, group: str, figures: Iterable[str]) -> Any:
    """Lay out the dashboard of a group; no network is used.

    Parameters
    ----------
    entity, project
        Whose workspace it will be, and of which project.
    group
        The runs shown: those of this group.
    figures
        Names of all figures of the runs, as in `metrics.json` and the summaries; areas and
        faithfulness are charted by name.

    Returns
    -------
    wandb_workspaces.workspaces.Workspace
        With the table of runs sorted by validated balanced accuracy, and the sections Runs,
        Training, Pruning, Genes and Faithfulness.
    """
    ws, wr = _packages()
    return ws.Workspace(
        entity=entity,
        project=project,
        name=group,
        auto_generate_panels=False,
        sections=[
            ws.Section(name=name, panels=panels, is_open=True)
            for name, panels in _panels(wr, [*figures]).items()
        ],
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Metric("Group") == group),
            order=[ws.Ordering(ws.Summary(BEST), ascending=False)],
            pinned_columns=[
                "run:displayName",
                "run:jobType",
                *(f"summary:{name}" for name in (BEST, *BESIDE)),
            ],
        ),
    )


def lay_out(
    project: str, group: str, figures: Iterable[str], entity: str | None = None
) -> str | None:
    """Save the dashboard of a group, and draw the lineage of its runs.

    `entity` is whose project it is, by default that of the key.

    Returns
    -------
    str or None
        Its address; None where W&B is not online or refuses it, which is a warning in the log.
    """
    if wandb_mode() != "online":
        return None
    try:
        api = wandb.Api()
        entity = entity or str(api.default_entity)
        draw_lineage(api, f"{entity}/{project}", group)
        made = workspace(entity, project, group, figures)
        made.save()
        return str(made.url)
    except Exception as error:  # a service's failure, of whatever kind, must not cost the report
        _log.warning("W&B: no dashboard: %s", redacted(str(error)))
        return None


def _panels(wr: Any, figures: list[str]) -> dict[str, list[Any]]:
    """Section -> its panels."""
    areas = sorted(name for name in figures if name.startswith("pruning/area/"))
    faithful = sorted(name for name in figures if name.startswith("faithfulness/"))
    removed: dict[str, Any] = {"x": "pruning/removed", "title_x": "share of genes removed"}
    curves = [
        wr.LinePlot(
            title=f"{title}: balanced accuracy", metric_regex=f"pruning/{curve}/.*", **removed
        )
        for title, curve in (
            ("best genes kept", "curves/lowest_first"),
            ("best genes removed", "curves/highest_first"),
            ("trained again without the best genes", "retrained"),
        )
    ]
    return {
        "Runs": [wr.BarPlot(title=name, metrics=[name]) for name in (BEST, *BESIDE)]
        + [wr.RunComparer(diff_only="split")],
        "Training": [
            wr.LinePlot(title=title, x="trainer/global_step", y=metrics)
            for title, metrics in (
                ("loss", ["train/loss", "val/loss"]),
                ("balanced accuracy", [BEST]),
            )
        ],
        "Pruning": [
            *curves,
            wr.BarPlot(title="area between the curve and random's", metrics=areas),
        ],
        "Genes": [
            wr.WeavePanelSummaryTable(table_name=name)
            for name in ("genes", "rankings", "genes_by_label")
        ],
        "Faithfulness": [
            wr.BarPlot(title="faithfulness", metrics=faithful),
            wr.WeavePanelSummaryTable(table_name="faithfulness"),
        ],
    }


def _packages() -> tuple[Any, Any]:
    """The two halves of wandb-workspaces, which warn of their own old pydantic when imported."""
    require_workspaces()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    return ws, wr
