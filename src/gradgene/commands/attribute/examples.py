"""A few pairs explained one by one, for readers of the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from gradgene.attribution import Attribution
from gradgene.cells import Cells
from gradgene.commands.attribute.sampled_pairs import explained_pairs
from gradgene.commands.config.binding import build
from gradgene.commands.run.workspace import Workspace
from gradgene.pairs import BaselineStrategy, PairPlan
from gradgene.store import write_parquet

__all__ = ["chosen_pairs", "write_examples"]

#: So many pairs are written, of so many of the largest strata.
MOST_PAIRS = 12
#: So many genes of a pair are named; the others are one sum.
MOST_GENES = 20
#: Where a pair stands among those of its stratum, by the change in the model's output.
STANDING = {"typical": 0.5, "weak": 0.1, "strong": 0.9}


def write_examples(work: Workspace, cells: Cells, plan: PairPlan, pairs: pd.DataFrame) -> None:
    """Write `attributions/examples.parquet`: the main method on a few pairs.

    Pairs are explained again, so that no process has to keep the scores of any. Scores are those of
    the forward pass in the units of the explained output, before any normalisation: those of a
    complete method lead from `f_baseline` to `f_input`.

    Columns: `pair, standing, stratum, input, baseline, donor_input, donor_baseline, f_input,
    f_baseline`, the same in every row of a pair, and `kind` (`gene`, `category` or `rest`, the sum
    of the other genes), `name`, `score`, `n_genes` (1, or how many the rest is of), `value_input`,
    `value_baseline` (log-normalised expression; null for what is no gene, and of a baseline that is
    no cell).
    """
    chosen = chosen_pairs(pairs.merge(plan.table[["pair", "stratum"]], on="pair"))
    rows = chosen["pair"].to_numpy()
    baseline: BaselineStrategy = build(work.cfg.baseline)
    tables = []
    part = plan.take(rows)
    for at, found in explained_pairs(work, work.settings, work.loaded.model, cells, part):
        for row, i in enumerate(np.asarray(at)):
            of_pair = pd.DataFrame(_scores(work, found, row))
            of_pair = _with_values(of_pair, cells, part, int(i), is_cell=baseline.swaps)
            f_input, f_baseline = found.forward.f_input_p[row], found.forward.f_baseline_p[row]
            facts = {"pair": rows[i], "standing": chosen["standing"].iloc[i]}
            for name in ("stratum", "input", "baseline", "donor_input", "donor_baseline"):
                facts[name] = part.table[name].iloc[i]
            facts |= {"f_input": float(f_input), "f_baseline": float(f_baseline)}
            frame = pd.DataFrame([facts] * len(of_pair))
            tables.append((i, pd.concat([frame, of_pair], axis=1)))
    tables.sort(key=lambda one: int(one[0]))
    whole = pd.concat([table for _, table in tables], ignore_index=True)
    write_parquet(whole, work.folder / "attributions" / "examples.parquet")


def chosen_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """A typical pair of each of the largest strata, and where few are, a weak and a strong one.

    Parameters
    ----------
    pairs
        `pair, stratum, f_input, f_baseline`.

    Returns
    -------
    DataFrame
        `pair, standing`, the typical ones first and strata by their size.
    """
    change = pairs["f_input"] - pairs["f_baseline"]
    pairs = pairs.assign(change=change).sort_values(["change", "pair"])
    sizes = pairs["stratum"].value_counts(sort=False)
    strata = sorted(sizes.index, key=lambda name: (-sizes[name], str(name)))[:MOST_PAIRS]
    rows = []
    for standing, share in STANDING.items():
        for name in strata:
            of = pairs.loc[pairs["stratum"] == name, "pair"].to_numpy()
            rows.append((int(of[round(share * (len(of) - 1))]), standing))
    found = pd.DataFrame(rows, columns=["pair", "standing"]).drop_duplicates("pair")
    return found.head(MOST_PAIRS).reset_index(drop=True)


def _scores(work: Workspace, found: Attribution, row: int) -> Iterator[dict[str, Any]]:
    """The best genes of one pair, each category, and the other genes as one."""
    vocabulary = work.loaded.vocabulary
    score_t = found.forward.scores_pt[row].detach().cpu().double().numpy()
    gene_t = found.gene_ids_pt[row].cpu().numpy()
    for i in range(1, found.n_header):
        name = vocabulary.phenotypes[i - 1]
        yield {"kind": "category", "name": name, "score": score_t[i], "n_genes": 0, "gene": -1}
    places = np.flatnonzero(gene_t >= 0)
    places = places[np.lexsort((gene_t[places], -np.abs(score_t[places])))]
    for i in places[:MOST_GENES]:
        gene = int(gene_t[i])
        yield {"kind": "gene", "name": vocabulary.genes[gene], "n_genes": 1, "gene": gene} | {
            "score": score_t[i]
        }
    rest = places[MOST_GENES:]
    if len(rest):
        yield {"kind": "rest", "name": None, "n_genes": len(rest), "gene": -1} | {
            "score": float(score_t[rest].sum())
        }


def _with_values(
    scores: pd.DataFrame, cells: Cells, plan: PairPlan, pair: int, *, is_cell: bool
) -> pd.DataFrame:
    """The scores with what both cells express of each gene."""
    gene = scores["gene"].to_numpy()
    known = gene >= 0
    for member, rows in (("input", plan.input_rows), ("baseline", plan.baseline_rows)):
        values = np.full(len(scores), np.nan)
        if is_cell or member == "input":
            values[known] = cells.matrix_ng[rows[pair]].toarray().ravel()[gene[known]]
        scores[f"value_{member}"] = values
    return scores.drop(columns="gene")
