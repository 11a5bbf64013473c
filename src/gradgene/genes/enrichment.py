"""Are the best genes those of a pathway, more than chance among what could have been found?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gradgene.errors import RankingError, require_extra
from gradgene.genes.gene_sets import GeneSets
from gradgene.genes.statistics import benjamini_hochberg
from gradgene.genes.table import GeneTable

__all__ = ["ENRICHMENT_COLUMNS", "enrich", "require_gseapy", "scored_genes"]

#: Columns of `enrich`, in order.
ENRICHMENT_COLUMNS = (
    "gene_set",
    "collection",
    "n_set",
    "n_overlap",
    "odds_ratio",
    "p",
    "p_adjusted",
    "genes",
)


def require_gseapy() -> None:
    """Refuse enrichment where gseapy is not installed; to be asked before hours of other work.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    require_extra("enrichment", "gseapy", where="evaluation.gene_sets")


def scored_genes(table: GeneTable) -> list[str]:
    """Genes that the model could score, the background of `enrich`: expressed in some pair."""
    genes = table.genes
    return [str(g) for g in genes["gene"][genes["n_pairs"] > 0]]


def enrich(
    table: GeneTable,
    sets: GeneSets,
    *,
    top_k: int,
    background: Sequence[str],
    min_genes: int = 1,
) -> pd.DataFrame:
    """Over-representation of gene sets among the `top_k` best genes, by gseapy, offline.

    Fisher's one-sided exact test: the probability that `top_k` genes drawn without order from
    `background` hold as many of the set or more. It takes genes for independent draws; genes of a
    pathway are not, so that p orders the sets rather than proves one.

    Parameters
    ----------
    table
        The ranked genes.
    sets
        The gene sets. Names are compared as they are: sets of human symbols do not fit mouse genes.
    top_k
        How many of the best genes to look at.
    background
        All genes that could have been found; see `scored_genes`. Genes of a set outside of it are
        dropped before anything is counted.
    min_genes
        Sets with fewer genes in the background are left out, and not adjusted for.

    Returns
    -------
    DataFrame
        A row a set, best first: `gene_set`, `collection`, `n_set` genes in the background,
        `n_overlap` of them among the best, `odds_ratio` with half a gene added to each of the four
        counts (so that it is finite), `p`, `p_adjusted` over all these sets (Benjamini-Hochberg),
        `genes` the overlap in the order of the table, with ";" between them.

    Raises
    ------
    ConfigError
        If gseapy is not installed.
    RankingError
        If `top_k` is no part of the background, a best gene is not in it, or no set is left.
    """
    known = frozenset(background)
    top = _best(table, top_k, known)
    tested = _testable(sets, known, min_genes)
    frame = _counts(top, tested)
    n_overlap, n_set = frame["n_overlap"].to_numpy(), frame["n_set"].to_numpy()
    p = _fisher(top, tested, background) if n_overlap.any() else np.ones(len(frame))
    frame = frame.assign(
        odds_ratio=_odds_ratio(n_overlap, n_set, top_k, len(known)),
        p=p,
        p_adjusted=benjamini_hochberg(p),
    )
    # Ties (mostly p = 1) are ordered by name.
    frame = frame.sort_values(["p", "gene_set"], kind="stable", ignore_index=True)
    return frame[list(ENRICHMENT_COLUMNS)]


def _best(table: GeneTable, top_k: int, known: frozenset[str]) -> list[str]:
    """The `top_k` best genes, all of which must be `known`."""
    if not 1 <= top_k < len(known):
        raise RankingError(
            f"cannot look at the {top_k} best genes of a background of {len(known)}",
            expected=f"from 1 to {len(known) - 1}",
        )
    top = table.top(top_k)
    strange = [gene for gene in top if gene not in known]
    if strange:
        raise RankingError(f"genes of the table are not in the background: {_some(strange)}")
    return top


def _testable(sets: GeneSets, known: frozenset[str], min_genes: int) -> GeneSets:
    """The sets within what is `known`, those too small left out."""
    within = sets.within(known)
    large = {name: genes for name, genes in within.sets.items() if len(genes) >= min_genes}
    if not large:
        raise RankingError(
            f"no gene set has {min_genes} genes of the background",
            expected=f"names such as {_some(sorted(known))}",
            found=_some(sorted(sets.genes)),
            fix="use sets of the same species and kind of name; see data.gene_key",
        )
    return GeneSets(large, {name: within.collections[name] for name in large})


def _counts(top: Sequence[str], sets: GeneSets) -> pd.DataFrame:
    """A row a set: its name, collection, size, overlap with `top` and the genes of the overlap."""
    overlaps = [[gene for gene in top if gene in genes] for genes in sets.sets.values()]
    return pd.DataFrame(
        {
            "gene_set": list(sets.sets),
            "collection": [sets.collections[name] for name in sets.sets],
            "n_set": [len(genes) for genes in sets.sets.values()],
            "n_overlap": [len(overlap) for overlap in overlaps],
            "genes": [";".join(overlap) for overlap in overlaps],
        }
    )


def _fisher(top: Sequence[str], sets: GeneSets, background: Sequence[str]) -> np.ndarray:
    """(sets,) p of each set, all of whose genes are in the background; one overlaps at least."""
    require_gseapy()
    import gseapy

    # Numbers for names: gseapy changes the case of names, or takes numerals for Entrez ids.
    code = {gene: f"G{i}" for i, gene in enumerate(dict.fromkeys(background))}
    coded = {f"S{i}": [code[g] for g in genes] for i, genes in enumerate(sets.sets.values())}
    # It takes logarithms of p for a score that nobody reads here; a p may be too small for a float.
    with np.errstate(divide="ignore"):
        result = gseapy.enrich(
            gene_list=[code[gene] for gene in top],
            gene_sets=coded,
            background=list(code.values()),
            outdir=None,
            no_plot=True,
        )
    # Sets without overlap, whose p is 1, are left out of its results.
    p = result.results.set_index("Term")["P-value"].reindex(list(coded), fill_value=1.0)
    return np.asarray(p, dtype=float)


def _odds_ratio(n_overlap: np.ndarray, n_set: np.ndarray, top_k: int, n: int) -> np.ndarray:
    """(sets,) sample odds ratio with Haldane's and Anscombe's half in each count."""
    both, only_set, only_top = n_overlap, n_set - n_overlap, top_k - n_overlap
    neither = n - both - only_set - only_top
    ratio = (both + 0.5) * (neither + 0.5) / ((only_set + 0.5) * (only_top + 0.5))
    return np.asarray(ratio)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
