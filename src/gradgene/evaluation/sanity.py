"""What a ranking must not survive: weights, genes or labels that mean nothing.

Checks
    randomisation: the same pairs explained for models whose weights were drawn anew, from the head
    down; at the end nothing is left of what the model learnt, and a ranking that is still the same
    is none of the model's (Adebayo et al. 2018). This one decides.
    gene_shuffle: the trained model on cells whose genes were exchanged; see `randomisation.py`.
    label_permutation: the trained model on pairs drawn by labels that were permuted within donors.
    Such scores may correlate with the true ones either way, because chance leaves a few more cells
    of one label on one side; but they are small (`relative_size`), and few of their genes differ
    from exchanged labels (`p_share`, about 0.05 for a calibrated null).
    label_relearning: models trained on permuted labels, on the same pairs; only where asked for.
References
    The trained model itself, and the correlation between two halves of the pairs: what there is
    to lose.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from gradgene.errors import ConfigError, require_least
from gradgene.evaluation.agreement import rank_correlation

__all__ = ["LEVEL", "Control", "Sanity", "SanityVerdict", "judge_sanity", "sanity_table", "typical"]

OnFailure = Literal["error", "warn"]
#: Genes with an unadjusted p below this count in `p_share`.
LEVEL = 0.05
COLUMNS = (
    "check",
    "step",
    "depth",
    "draw",
    "seed",
    "spearman",
    "spearman_abs",
    "spearman_abs_given_share",
    "relative_size",
    "p_share",
    "n_genes",
    "n_pairs",
    "note",
)


@dataclass(frozen=True)
class Sanity:
    """Controls of the main method on held-out pairs.

    Parameters
    ----------
    n_pairs
        Pairs that every control attributes, drawn from the held-out ones.
    n_draws
        Random models, shuffles and permutations of labels, each.
    threshold
        A fully random model whose Spearman correlation with the trained one is beyond this, in
        either direction, ranks genes like it: one such draw, and the run has failed.
    on_failure
        "error": the command ends with an error, after everything is written. "warn": it says so.
    n_retrained
        Models of the same configuration that are trained on permuted labels; 0 trains none.
    seed
        Seed of the draws.

    Raises
    ------
    ConfigError
        For numbers out of range or an unknown `on_failure`.
    """

    n_pairs: int = 128
    n_draws: int = 3
    threshold: float = 0.5
    on_failure: OnFailure = "error"
    n_retrained: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        require_least(
            "evaluation.sanity",
            n_pairs=(self.n_pairs, 2),
            n_draws=(self.n_draws, 1),
            n_retrained=(self.n_retrained, 0),
            seed=(self.seed, 0),
        )
        if not 0 < self.threshold < 1:
            raise ConfigError(
                "is no correlation that could be exceeded",
                where="evaluation.sanity.threshold",
                expected="between 0 and 1",
                found=str(self.threshold),
            )
        if self.on_failure not in get_args(OnFailure):
            raise ConfigError(
                f"unknown choice {self.on_failure!r}",
                where="evaluation.sanity.on_failure",
                expected="'error' or 'warn'",
            )


@dataclass(frozen=True)
class Control:
    """One ranking that should not be like the trained model's, or a reference beside them.

    Attributes
    ----------
    check
        "reference", "randomisation", "gene_shuffle", "label_permutation" or "label_relearning".
    step
        Which of the steps of the check.
    score_g
        (genes,) its scores; None where it could not be made, which `note` explains.
    n_pairs
        Pairs they rest on.
    depth
        Steps of the cascade that were randomised; 0 where none was.
    draw, seed
        Number of the draw and what it was drawn from.
    p_share
        Share of genes whose unadjusted p against exchanged labels is below 0.05; NaN without.
    """

    check: str
    step: str
    score_g: np.ndarray | None
    n_pairs: int
    depth: int = 0
    draw: int = 0
    seed: int = 0
    p_share: float = float("nan")
    note: str = ""


@dataclass(frozen=True)
class SanityVerdict:
    """Whether the ranking depends on what the model learnt.

    Attributes
    ----------
    similarity
        The greatest |Spearman| between a fully random and the trained model over the draws: one
        random model that ranks genes like the trained one is one too many. NaN where no draw's
        scores have an order.
    typical
        Its median over the draws.
    n_draws, n_undefined
        How many draws there were, and of how many no correlation is known.
    passed
        Whether `similarity` is at most the threshold: False if any draw is beyond it; otherwise
        None, which is no verdict, where any draw has no correlation or there is no draw.
    """

    similarity: float
    typical: float
    n_draws: int
    n_undefined: int
    passed: bool | None


def sanity_table(
    trained_g: np.ndarray, share_g: np.ndarray, controls: Iterable[Control]
) -> pd.DataFrame:
    """Compare controls with the scores of the trained model.

    Parameters
    ----------
    trained_g
        (genes,) scores of the trained model.
    share_g
        (genes,) share of its pairs that show the gene; genes in none of them are not compared.
    controls
        What to compare.

    Returns
    -------
    DataFrame
        A row a control: `check, step, depth, draw, seed`; `spearman` of the scores, `spearman_abs`
        of their magnitudes and `spearman_abs_given_share`, what is left of it between genes that
        are seen equally often (magnitudes of any scores grow with that); `relative_size`, the
        length of the control's scores over that of the trained model's; `p_share`, `n_genes,
        n_pairs` and `note`.
    """
    seen = share_g > 0
    trained_g, share_g = trained_g[seen].astype(float), share_g[seen]
    rows = []
    for control in controls:
        found: dict[str, float] = dict.fromkeys(COLUMNS[5:9], float("nan"))
        if control.score_g is not None:
            other_g = control.score_g[seen].astype(float)
            sizes = np.abs(trained_g), np.abs(other_g)
            found["spearman"] = rank_correlation(trained_g, other_g)
            found["spearman_abs"] = rank_correlation(*sizes)
            found["spearman_abs_given_share"] = rank_correlation(*sizes, share_g)
            length = np.linalg.norm(trained_g)
            if length > 0:
                found["relative_size"] = float(np.linalg.norm(other_g) / length)
        row = {name: value for name, value in vars(control).items() if name != "score_g"}
        rows.append(row | found | {"n_genes": int(seen.sum())})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def judge_sanity(table: pd.DataFrame, threshold: float, by: str = "spearman") -> SanityVerdict:
    """Judge the fully random models of a `sanity_table`, the deepest of the cascade.

    `by` is "spearman", or "spearman_abs" where genes are ranked by magnitude. The sign of a random
    model's scores is as random as its weights, so that either direction is likeness.
    """
    cascade = table[table["check"] == "randomisation"]
    last = cascade[cascade["depth"] == cascade["depth"].max()]
    size_n = last[by].abs()
    greatest, n_undefined = float(size_n.max()), int(size_n.isna().sum())
    passed = None if n_undefined or last.empty else greatest <= threshold
    if greatest > threshold:
        passed = False
    return SanityVerdict(greatest, typical(last[by]), len(last), n_undefined, passed)


def typical(values: pd.Series) -> float:
    """Median of magnitudes over draws; NaN without any."""
    known = values.dropna().abs()
    return float(known.median()) if len(known) else float("nan")
