"""Has a model learnt the pairs that were planted without a marginal signal?

With f the margin log p(input) - log p(baseline) of a cell whose target is masked,

    interaction = mean over cells of [f(1,0) + f(0,1) - f(1,1) - f(0,0)] / 2,

which is the log odds that "exactly one is on" adds. In f(i, j) the values of the two genes are
those of a cell that truly is in that state, drawn among all cells of the same type: real values,
and everything else of the cell as it was. That of Bayes' classifier is the same contrast of the
pair's part in its log odds, between the means of the cells that are in these states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import sparse

from gradgene.cells import Cells
from gradgene.errors import CellsError
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pruning import predict
from gradgene.tokens import Tokenizer

__all__ = ["LEARNT", "learnt_pairs"]

#: Share of the Bayes interaction from which a pair counts as learnt.
LEARNT = 0.5
#: The four states (first on, second on) of a pair, and the sign of each in the interaction.
STATES = {(0, 0): -1.0, (0, 1): 1.0, (1, 0): 1.0, (1, 1): -1.0}
PREDICT_TOKENS = 8192
COLUMNS = [
    *("pair", "gene_a", "gene_b", "interaction", "bayes_interaction"),
    *("share", "learnt", "pair_accuracy"),
]


def learnt_pairs(
    model: PhenotypeGeneTransformer,
    tokenizer: Tokenizer,
    cells: Cells,
    state_nx: np.ndarray,
    log_odds_nk: np.ndarray,
    pairs: Sequence[tuple[str, str]],
    contrast: tuple[str, str, str],
    *,
    n_cells: int = 400,
    seed: int = 0,
) -> pd.DataFrame:
    """Interaction of each planted pair in a model's margin, beside that of Bayes' classifier.

    Parameters
    ----------
    model, tokenizer
        The trained model, in evaluation mode, and what makes its tokens.
    cells
        Prepared held-out cells, with the obs column `cell_type`.
    state_nx
        (cells, 2 x pairs) whether each gene of each pair is truly on.
    log_odds_nk
        (cells, pairs) the part of each pair in the Bayes log odds (natural logarithm).
    pairs
        The planted pairs.
    contrast
        Target category, input and baseline label.
    n_cells
        At most this many cells are changed; their values are drawn from all.
    seed
        Seed of the draws.

    Returns
    -------
    DataFrame
        `pair, gene_a, gene_b, interaction, bayes_interaction, share` (of the two), `learnt`
        (a share of at least `LEARNT`) and `pair_accuracy`: how often "exactly one is on" alone
        names the label.

    Raises
    ------
    CellsError
        If a pair has no cell of some state in a cell type, so that there is nothing to draw.
    """
    case_n = (cells.obs[contrast[0]] == contrast[1]).to_numpy()
    rng = np.random.default_rng(seed)
    rows = []
    for k, (a, b) in enumerate(pairs):
        state_n2 = state_nx[:, 2 * k : 2 * k + 2].astype(int)
        found = _interaction(model, tokenizer, cells, (a, b), state_n2, contrast, n_cells, rng)
        bayes = _contrast({s: log_odds_nk[_in(state_n2, s), k].mean() for s in STATES})
        share = found / bayes if bayes > 0 else float("nan")
        accuracy = float(((state_n2.sum(axis=1) == 1) == case_n).mean())
        rows.append((f"{a}+{b}", a, b, found, bayes, share, share >= LEARNT, accuracy))
    return pd.DataFrame(rows, columns=COLUMNS)


def _interaction(
    model: PhenotypeGeneTransformer,
    tokenizer: Tokenizer,
    cells: Cells,
    pair: tuple[str, str],
    state_n2: np.ndarray,
    contrast: tuple[str, str, str],
    n_cells: int,
    rng: np.random.Generator,
) -> float:
    chosen = np.sort(rng.permutation(len(cells))[:n_cells])
    type_n = cells.obs["cell_type"].astype(str).to_numpy()
    columns = [cells.genes.index(gene) for gene in pair]
    changed = cells.take(chosen)
    margins = {}
    for state in STATES:
        sources = _sources(type_n, chosen, _in(state_n2, state), rng, f"{pair[0]}, {pair[1]}")
        values_n2 = cells.matrix_ng[sources][:, columns].toarray()
        given = _with_values(changed, columns, values_n2)
        margins[state] = float(_margins(model, tokenizer, given, contrast).mean())
    return _contrast(margins)


def _sources(
    type_n: np.ndarray,
    chosen: np.ndarray,
    in_state_n: np.ndarray,
    rng: np.random.Generator,
    what: str,
) -> np.ndarray:
    """Where each of the chosen takes its values from: a cell of its type that is in the state."""
    rows = np.empty(len(chosen), dtype=np.int64)
    for name in np.unique(type_n[chosen]):
        mine = type_n[chosen] == name
        of_state = np.flatnonzero(in_state_n & (type_n == name))
        if not len(of_state):
            raise CellsError(
                f"no held-out cell of type {name!r} is in one of the four states of {what}",
                fix="plant more cells",
            )
        rows[mine] = rng.choice(of_state, size=int(mine.sum()))
    return rows


def _with_values(cells: Cells, columns: list[int], values_n2: np.ndarray) -> Cells:
    """The cells with other values in two columns."""
    matrix_ng = cells.matrix_ng.tolil(copy=True)
    for column, value_n in zip(columns, values_n2.T, strict=True):
        matrix_ng[:, [column]] = value_n[:, None]
    changed = sparse.csr_matrix(matrix_ng)
    changed.eliminate_zeros()
    return replace(cells, matrix_ng=changed)


def _margins(
    model: PhenotypeGeneTransformer,
    tokenizer: Tokenizer,
    cells: Cells,
    contrast: tuple[str, str, str],
) -> np.ndarray:
    """(cells,) log p(input) - log p(baseline) of the masked target."""
    target, *labels = contrast
    found = predict(model, tokenizer.encode(cells), target, PREDICT_TOKENS)
    # A probability that float32 rounds to zero stands for the smallest that it can hold.
    log_nc = np.log(np.maximum(found.probabilities_nc, np.finfo(np.float32).tiny))
    u, v = (found.labels.index(label) for label in labels)
    return np.asarray(log_nc[:, u] - log_nc[:, v], dtype=float)


def _in(state_n2: np.ndarray, state: tuple[int, int]) -> np.ndarray:
    return np.asarray((state_n2 == np.array(state)).all(axis=1))


def _contrast(of_state: dict[tuple[int, int], float]) -> float:
    return sum(sign * float(of_state[state]) for state, sign in STATES.items()) / 2
