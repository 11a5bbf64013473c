"""Gene tables of a few genes and three donors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gradgene.genes import GeneSums, GeneTable, build_gene_table

FACTS = {
    "method": "deeplift",
    "baseline": "cell_state",
    "target": "disease: case against control",
    "model": "toy",
    "split": "test",
    "seed": 0,
    "config_hash": "abc",
}
PHENOTYPES = ("sex", "disease")


def sums_of(
    forward_dg: np.ndarray,
    present_dg: np.ndarray,
    n_pairs_d: list[int],
    main: str = "forward",
    **more: np.ndarray,
) -> GeneSums:
    """Sums of a method without presence or `paper_mean`; backward is -forward."""
    zeros = np.zeros_like(forward_dg)
    sums = {
        "forward": forward_dg,
        "forward/abs": np.abs(forward_dg),
        "forward/zero": zeros,
        "backward": -forward_dg,
        "backward/abs": np.abs(forward_dg),
        "backward/zero": zeros,
        "embedding": forward_dg / 2,
        "present": present_dg,
    }
    groups = pd.DataFrame(
        {"donor": [f"d{i}" for i in range(len(n_pairs_d))], "batch": None, "label": None}
    )
    return GeneSums(sums | more, np.array(n_pairs_d), groups, main)


def expression_of(genes: list[str], n_pairs: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "gene": genes,
            "ensembl_id": [f"ENSG{i}" for i in range(len(genes))],
            "n_pairs": n_pairs,
            "n_cells": n_pairs,
            "n_donors": [min(3, n) for n in n_pairs],
            "log_fold_change": np.linspace(-1, 1, len(genes)),
            "direction": ["up"] * len(genes),
        }
    )


def table_of(
    scores: list[float], genes: list[str] | None = None, sign: str = "signed", **more: Any
) -> GeneTable:
    """One pair in each of three donors, every gene in every pair with the same score."""
    genes = genes or [f"g{i}" for i in range(len(scores))]
    forward = np.tile([*scores, 0.5, 0.0], (3, 1))
    sums = sums_of(forward, np.ones_like(forward), [1, 1, 1], **more)
    expression = expression_of(genes, [3] * len(genes))
    return build_gene_table(sums, expression, PHENOTYPES, "forward", sign, FACTS)
