"""Measure which of the best genes of a study its model reads together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from gradgene.attribution import GeneInteractions, integrated_hessians, mixed_differences
from gradgene.commands.attribute.stage import ranking_names
from gradgene.commands.config.binding import build
from gradgene.commands.prune.controls import main_ranking, wanted_controls
from gradgene.commands.run.progress import with_bar
from gradgene.commands.run.workspace import Workspace
from gradgene.errors import ConfigError, RankingError, closest
from gradgene.evaluation import Interactions, interaction_table
from gradgene.lit import PlannedPairs
from gradgene.pairs import PairPlan, blind_pairs
from gradgene.store import write_parquet

__all__ = ["check_interactions", "measure_interactions"]

#: Pairs of cells that are embedded at a time.
EMBEDDED = 8
#: Below this adjusted p two genes count as read together.
ALPHA = 0.05


def check_interactions(work: Workspace, settings: Interactions) -> None:
    """Refuse before any work what could not be measured.

    Raises
    ------
    ConfigError
        For second derivatives of a model that has none.
    RankingError
        For a ranking that will not be made, or genes that the panel lacks.
    """
    if settings.method == "integrated_hessians":
        _refuse_kinks(work)
    known = [name for a in work.attributions for name in ranking_names(work, a)]
    known += wanted_controls(work, build(work.cfg.pruning))
    if settings.ranking is not None and settings.ranking not in known:
        raise RankingError(
            f"no ranking {settings.ranking!r}",
            where="evaluation.interactions.ranking",
            expected=f"one of {closest(settings.ranking, known)}",
        )
    if settings.genes is not None:
        panel = work.data.part("test").genes
        unknown = [gene for gene in settings.genes if gene not in panel]
        if unknown:
            raise RankingError(
                f"{unknown[0]!r} is not in the model's panel",
                where="evaluation.interactions.genes",
                expected=f"one of {closest(unknown[0], panel)}",
            )


def _refuse_kinks(work: Workspace) -> None:
    """A model without second derivatives, be it given, to begin with or yet to be made."""
    source = work.start if work.cfg.checkpoint.path is None else work.loaded
    kind = work.cfg.model.activation if source is None else source.model.size["activation"]
    if kind == "relu":
        raise ConfigError(
            "a model of ReLU has no second derivatives but at its kinks",
            where="evaluation.interactions.method",
            fix="use finite_differences",
        )


def measure_interactions(work: Workspace, settings: Interactions) -> None:
    """Write `evaluation/interactions.parquet` and the metrics `interactions/…`.

    Genes are the best of training cells and are judged in held-out ones, in pairs that are drawn
    whatever the label; neither the pairs nor the baseline of the attributions plays a part.
    """
    facts, cells = work.facts, work.data.part("test")
    genes = _genes(work, settings)
    plan = blind_pairs(
        cells,
        facts.target,
        (facts.input, facts.baseline),
        facts.match_on,
        settings.max_pairs,
        facts.seed,
    )
    table = interaction_table(
        _measured(work, settings, genes, plan),
        genes,
        plan.table["donor_input"].to_numpy(dtype=str) if cells.schema.donor else None,
        settings.n_null,
        facts.seed,
    ).assign(method=settings.method, seed=facts.seed)
    write_parquet(table, work.folder / "evaluation" / "interactions.parquet")
    metrics = {
        "n_genes": len(genes),
        "n_cell_pairs": len(plan),
        "strongest": float(table["excess"].abs().iloc[0]),
    }
    if settings.n_null:
        metrics["n_significant"] = int((table["p_adjusted"] < ALPHA).sum())
    work.add_metrics({f"interactions/{name}": value for name, value in metrics.items()})


def _genes(work: Workspace, settings: Interactions) -> list[str]:
    """The genes to look at, best first."""
    if settings.genes is not None:
        return [*settings.genes]
    name = settings.ranking or main_ranking(work)
    frame = pd.read_parquet(work.folder / "pruning" / "rankings.parquet")
    # Of a control of several draws, the first; of attributions there is no draw to choose.
    wanted = frame[(frame["ranking"] == name) & (frame["draw"].fillna(0) == 0)].sort_values("rank")
    return [str(gene) for gene in wanted["gene"].head(settings.top_k)]


def _measured(
    work: Workspace, settings: Interactions, genes: list[str], plan: PairPlan
) -> GeneInteractions:
    """What the model makes of the genes in every pair of the plan."""
    facts, loaded = work.facts, work.loaded
    served = PlannedPairs(work.data.part("test"), loaded.tokenizer, plan)
    target = work.settings.target(facts.target, facts.input, facts.baseline)
    index = loaded.vocabulary.gene_index(genes).tolist()
    batches = torch.arange(len(plan)).split(EMBEDDED)
    parts = []
    for pairs in with_bar(work.console, "interactions", batches):
        blended = served[np.asarray(pairs)].to(work.device)
        if settings.method == "finite_differences":
            found = mixed_differences(loaded.model, blended, target, index, settings.batch_tokens)
        else:
            found = integrated_hessians(
                loaded.model, blended, target, index, settings.n_steps, settings.batch_tokens
            )
        parts.append(found)
    return GeneInteractions.joined(parts)
