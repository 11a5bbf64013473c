"""Cut the model's genes by a ranking and judge what it still knows of held-out cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch

from gradgene.cells import Cells
from gradgene.errors import ConfigError, closest
from gradgene.genes import donor_interval
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pruning.curve import CURVE_COLUMNS, PruningCurve
from gradgene.pruning.metrics import arm_metrics
from gradgene.pruning.predict import Predictions, predict
from gradgene.pruning.ranking import GeneRanking
from gradgene.tokens import TokenBatch, Tokenizer

__all__ = ["ORDERS", "Judged", "PruningSettings", "prune"]

ORDERS = ("lowest_first", "highest_first")
Order = Literal["lowest_first", "highest_first", "both"]
Control = Literal["hvg", "deg", "expression", "random"]
Removal = Literal["delete", "mask"]


@dataclass(frozen=True)
class PruningSettings:
    """How far, in which order and by what to prune.

    Parameters
    ----------
    ratios
        Shares of the panel removed, in [0, 1): one list for every order, or a list by order.
    order
        "lowest_first", "highest_first" or "both".
    rankings
        Attribution rankings to prune by: "main" for the main one and the default importance of
        every compared method, "all" for every meaningful importance of every method, signed and
        absolute, or a list of names `<method>/<importance>[/abs]`.
    controls
        Control rankings beside them; intervals and areas need "random".
    n_random
        Number of random orders.
    rank_source
        "held_out": one global ranking, made on other donors' or cells' pairs than those judged.
    removal
        "delete" takes the tokens out; "mask" hides their expression behind `[MASK]`.
    batch_tokens
        Padded tokens per forward pass.

    Raises
    ------
    ConfigError
        For shares outside [0, 1), an order without shares, or an unknown order or removal.
    """

    ratios: tuple[float, ...] | dict[str, tuple[float, ...]]
    order: Order = "both"
    rankings: Literal["main", "all"] | tuple[str, ...] = "main"
    controls: tuple[Control, ...] = ("hvg", "deg", "random")
    n_random: int = 10
    rank_source: Literal["held_out"] = "held_out"
    removal: Removal = "delete"
    batch_tokens: int = 8192

    def __post_init__(self) -> None:
        for name, valid in (("order", get_args(Order)), ("removal", get_args(Removal))):
            value = str(getattr(self, name))
            if value not in valid:
                raise ConfigError(
                    f"unknown {name} {value!r}",
                    where=f"pruning.{name}",
                    expected=f"one of {closest(value, valid)}",
                )
        if not self.grid:
            raise ConfigError(f"no shares for the order {self.order}", where="pruning.ratios")
        for order, ratios in self.grid.items():
            wrong = [r for r in ratios if not 0 <= r < 1]
            if wrong or not ratios or order not in ORDERS:
                raise ConfigError(
                    "not a pruning grid",
                    where="pruning.ratios",
                    expected=f"shares in [0, 1) for {' and '.join(ORDERS)}",
                    found=f"{order}: {list(ratios)}",
                )

    @property
    def grid(self) -> dict[str, tuple[float, ...]]:
        """Order -> increasing ratios."""
        by_order = (
            {k: tuple(v) for k, v in self.ratios.items()}
            if isinstance(self.ratios, dict)
            else {order: tuple(self.ratios) for order in ORDERS}
        )
        wanted = ORDERS if self.order == "both" else (self.order,)
        # An order of another name is kept here, for the check above to refuse it.
        return {
            order: tuple(sorted(set(ratios)))
            for order, ratios in by_order.items()
            if order in wanted or order not in ORDERS
        }


@dataclass(frozen=True)
class Judged:
    """The cells on which a pruned panel is judged.

    `tokens` whole cells of both labels; `truth_n` (cells,) index of the true label among the
    labels of the target category; `donors_n` donor names, or None.
    """

    tokens: TokenBatch
    truth_n: np.ndarray
    donors_n: np.ndarray | None
    target: str
    input: str
    baseline: str
    split: str = "test"
    seed: int = 0

    @classmethod
    def of(
        cls,
        cells: Cells,
        tokenizer: Tokenizer,
        target: str,
        input: str,
        baseline: str,
        seed: int = 0,
    ) -> Judged:
        """The prepared `cells` of the two labels, whole, with their true labels and donors."""
        cells = cells.take(np.flatnonzero(cells.obs[target].isin([input, baseline])))
        donor = cells.schema.donor
        return cls(
            tokens=tokenizer.encode(cells),
            truth_n=tokenizer.true_labels(cells, target),
            donors_n=cells.obs[donor].to_numpy(dtype=str) if donor else None,
            target=target,
            input=input,
            baseline=baseline,
            seed=seed,
        )


def prune(
    model: PhenotypeGeneTransformer,
    judged: Judged,
    rankings: Sequence[GeneRanking],
    settings: PruningSettings,
    track: Callable[[Iterable[GeneRanking]], Iterable[GeneRanking]] = iter,
) -> PruningCurve:
    """Predict the judged cells on what is left of the panel, for every ranking, order and ratio.

    Equal sets of kept genes are predicted once. `track` may wrap the rankings in a progress bar.
    The model must be in evaluation mode.
    """
    done: dict[bytes, list[dict[str, object]]] = {}
    rows: list[dict[str, object]] = []
    for ranking in track(rankings):
        for order, ratios in settings.grid.items():
            for ratio in ratios:
                keep_g = ranking.kept(ratio, order)
                key = keep_g.tobytes()
                if key not in done:
                    kept_g, mask_id = torch.from_numpy(keep_g), model.vocabulary.mask_id
                    tokens = _remove(judged.tokens, kept_g, settings.removal, mask_id)
                    found = predict(model, tokens, judged.target, settings.batch_tokens)
                    done[key] = _measure(found, judged)
                at = {
                    "ranking": ranking.name,
                    "draw": ranking.draw,
                    "order": order,
                    "ratio": ratio,
                    "rank_source": settings.rank_source,
                    "split": judged.split,
                    "seed": judged.seed,
                }
                rows += [{**at, **row} for row in done[key]]
    return PruningCurve(pd.DataFrame(rows, columns=CURVE_COLUMNS))


def _remove(tokens: TokenBatch, keep_g: torch.Tensor, removal: str, mask_id: int) -> TokenBatch:
    if removal == "delete":
        return tokens.keep_genes(keep_g)
    hidden_nt = (tokens.gene_ids_nt >= 0) & ~keep_g[tokens.gene_ids_nt.clamp(min=0)]
    return replace(tokens, input_ids_nt=tokens.input_ids_nt.masked_fill(hidden_nt, mask_id))


def _measure(found: Predictions, judged: Judged) -> list[dict[str, object]]:
    """Metrics over all judged cells, with a donor interval where three donors have a value."""
    values = arm_metrics(found, judged.truth_n, judged.input, judged.baseline)
    by_donor = [
        arm_metrics(
            Predictions(found.probabilities_nc[rows], found.labels),
            judged.truth_n[rows],
            judged.input,
            judged.baseline,
        )
        for rows in _donor_rows(judged.donors_n)
    ]
    measured: list[dict[str, object]] = []
    for (arm, metric), value in values.items():
        of_donors = np.array([d[arm, metric] for d in by_donor if (arm, metric) in d])
        interval = donor_interval(of_donors[:, None]) if len(of_donors) else None
        measured.append(
            {
                "arm": arm,
                "metric": metric,
                "value": value,
                "ci_low": float(interval.low[0]) if interval else float("nan"),
                "ci_high": float(interval.high[0]) if interval else float("nan"),
                "n_cells": _n_cells(judged, found, arm),
                "n_donors": len(of_donors) if judged.donors_n is not None else None,
            }
        )
    return measured


def _donor_rows(donors_n: np.ndarray | None) -> list[np.ndarray]:
    if donors_n is None:
        return []
    return [np.flatnonzero(donors_n == d) for d in sorted(set(donors_n.tolist()))]


def _n_cells(judged: Judged, found: Predictions, arm: str) -> int:
    wanted = {"input": [judged.input], "baseline": [judged.baseline]}.get(
        arm, [judged.input, judged.baseline]
    )
    return int(np.isin(judged.truth_n, [found.labels.index(label) for label in wanted]).sum())
