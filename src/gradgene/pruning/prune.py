"""Cut the model's genes by a ranking and judge what it still knows of held-out cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gradgene.cells import Cells
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pruning.curve import PruningCurve
from gradgene.pruning.cutting import CellCuts, Cuts
from gradgene.pruning.points import Arms, Point, curve_of
from gradgene.pruning.predict import Progress, Track, predict_cuts
from gradgene.pruning.ranking import GeneRanking
from gradgene.pruning.settings import PruningSettings, n_kept
from gradgene.tokens import TokenBatch, Tokenizer

__all__ = ["Judged", "places", "prune", "window"]


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
    track: Track = iter,
    progress: Progress | None = None,
) -> PruningCurve:
    """Predict the judged cells on what is left of the panel, for every ranking, order and ratio.

    Where the same tokens of a cell are left by several rankings, orders or ratios, it is predicted
    once. Controls that do not depend on the model come first, so that works of other attributions
    can have what is said of them from `progress`. The model must be in evaluation mode.

    Parameters
    ----------
    model
        Decides the device.
    judged
        The cells.
    rankings
        Orders of the model's panel, which may be of several draws.
    settings
        The grid; `rank_source` is only noted (see `commands.prune.pairs`).
    track
        Wraps the pieces of work, in a progress bar for example.
    progress
        Where what is predicted is kept, for an interrupted call to go on there.
    """
    asked, rankings = rankings, sorted(rankings, key=_own)
    grid, n_genes = settings.points, len(model.vocabulary.genes)
    n, n_points = len(judged.tokens), len(grid) * len(rankings)
    cells = CellCuts(
        judged.tokens.compact(),
        torch.from_numpy(np.stack([places(r) for r in rankings]))
        if rankings
        else torch.zeros(1, n_genes, dtype=torch.int32),
        settings.removal,
        model.vocabulary.mask_id,
    )
    cuts = _cuts(n, len(rankings), grid, n_genes)
    p_vc = predict_cuts(
        model, cells, cuts, judged.target, settings.batch_tokens, track=track, progress=progress
    )
    p_knc = p_vc.reshape(n_points + 1, n, -1)
    labels = model.vocabulary.categories[judged.target]
    arms = Arms(judged.truth_n, judged.donors_n, labels, judged.input, judged.baseline)

    def points() -> Iterator[Point]:
        whole_n = arms.true(p_knc[0])
        place = {id(ranking): i for i, ranking in enumerate(rankings)}
        for ranking in asked:
            first = 1 + place[id(ranking)] * len(grid)
            for k, (order, ratio) in enumerate(grid, first):
                at = {"ranking": ranking.name, "draw": ranking.draw, "order": order, "ratio": ratio}
                yield Point(at, p_knc[k], whole_n)

    facts = {"rank_source": "held_out", "split": judged.split, "seed": judged.seed}
    return curve_of(points(), arms, facts)


def _own(ranking: GeneRanking) -> bool:
    """Whether the ranking is of a model's scores, or made to match such a one."""
    return "/" in ranking.name or ranking.name == "random_matched"


def _cuts(n: int, n_rankings: int, grid: Sequence[tuple[str, float]], n_genes: int) -> Cuts:
    """Every point of every ranking, of each of `n` cells.

    The whole panel is first, which drops are measured from; it equals every ratio 0.
    """
    ranges = [(0, 0, n_genes)]
    for i in range(n_rankings):
        ranges += [(i, *window(order, ratio, n_genes)) for order, ratio in grid]
    order_k, low_k, high_k = torch.tensor(ranges).T
    return Cuts(
        torch.arange(n).repeat(len(ranges)),
        *(x_k.repeat_interleave(n) for x_k in (order_k, low_k, high_k)),
    )


def places(ranking: GeneRanking) -> np.ndarray:
    """(genes,) int32: the place of each gene of the panel, from 0 for the most important."""
    place_g = np.empty(len(ranking.genes), dtype=np.int32)
    place_g[ranking.best_first] = np.arange(len(ranking.genes), dtype=np.int32)
    return place_g


def window(order: str, ratio: float, n: int) -> tuple[int, int]:
    """The places [low, high) of `n` genes that are left after removing a share.

    "lowest_first" leaves the most important genes, "highest_first" the least important.
    """
    kept = n_kept(ratio, n)
    return (0, kept) if order == "lowest_first" else (n - kept, n)
