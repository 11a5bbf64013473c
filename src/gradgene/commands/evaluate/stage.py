"""`gradgene evaluate`: judge the scores of a finished run: known genes, faithfulness and more.

What is measured is chosen by `evaluation=`; evaluation=full measures all that needs no file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gradgene.commands.config.binding import build
from gradgene.commands.estimate.forecast import Forecast, tell_stages
from gradgene.commands.evaluate.faithfulness import check_faithfulness, measure_faithfulness
from gradgene.commands.evaluate.interactions import check_interactions, measure_interactions
from gradgene.commands.evaluate.known import check_known, compare_with_known
from gradgene.commands.evaluate.relearning import check_relearning
from gradgene.commands.evaluate.sanity import measure_sanity, refuse_insane
from gradgene.commands.evaluate.stability import measure_stability
from gradgene.commands.line.options import Options
from gradgene.commands.run.memory import peak_mb
from gradgene.commands.run.workspace import Workspace
from gradgene.commands.sweep.planned import Estimate
from gradgene.errors import OutputError
from gradgene.evaluation import Evaluation

__all__ = ["check_evaluation", "evaluate", "forecast_evaluation", "run"]

Part = Callable[[Workspace, Any], None]
#: Field of `Evaluation` -> what refuses it before any work, if anything does, and what measures it,
#: in this order.
PARTS: dict[str, tuple[Part | None, Part]] = {
    "faithfulness": (check_faithfulness, measure_faithfulness),
    "stability": (None, measure_stability),
    "interactions": (check_interactions, measure_interactions),
    "sanity": (check_relearning, measure_sanity),
}


def run(cfg: DictConfig, options: Options, output_dir: Path) -> None:
    """Judge what `gradgene attribute` and `prune`, or `study`, left in the same folder."""
    with Workspace(cfg, output_dir) as work:
        check_evaluation(work)
        if options.dry_run:
            tell_stages(work, {"evaluate": forecast_evaluation}, planned=options.planned)
            return
        work.fetch_before("evaluate")
        work.write_provenance()
        work.stage("evaluate", evaluate)
        if work.is_main:
            refuse_insane(work)


def forecast_evaluation(work: Workspace) -> Forecast:
    """What is asked for; nothing of it is tried."""
    evaluation: Evaluation = build(work.cfg.evaluation)
    asked = [name for name in PARTS if getattr(evaluation, name) is not None]
    if evaluation.known_genes or evaluation.effects or evaluation.gene_sets:
        asked.insert(0, "comparison with what is known")
    n_models = evaluation.sanity.n_retrained if evaluation.sanity else 0
    asked += [f"{n_models} trainings on permuted labels"] if n_models else []
    return Forecast(", ".join(asked)) if asked else Forecast("nothing", Estimate(0.0, peak_mb()))


def check_evaluation(work: Workspace) -> None:
    """Refuse before any work an evaluation that cannot be done at its end.

    Raises
    ------
    GradgeneError
        For a file that does not hold what it should, or settings that fit neither the study nor
        its model.
    """
    evaluation: Evaluation = build(work.cfg.evaluation)
    check_known(work)
    for name, (check, _) in PARTS.items():
        settings = getattr(evaluation, name)
        if settings is not None and check is not None:
            check(work, settings)


def evaluate(work: Workspace) -> None:
    """Compare rankings with what is known, then measure what the evaluation asks for.

    Each part writes its own tables to `evaluation/` and its own metrics.

    Raises
    ------
    OutputError
        If attribution or pruning has not been run here with the present settings.
    """
    if not work.is_done("prune"):
        raise OutputError(
            "no attributions and pruning of this configuration",
            where=str(work.folder),
            fix="run `gradgene study`, or `gradgene attribute` and `gradgene prune`, with the "
            "same settings first",
        )
    for file in (work.folder / "evaluation").glob("*.parquet"):
        file.unlink()  # of other settings
    evaluation: Evaluation = build(work.cfg.evaluation)
    compare_with_known(work)
    for name, (_, measure) in PARTS.items():
        settings = getattr(evaluation, name)
        if settings is not None:
            measure(work, settings)
