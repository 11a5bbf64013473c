"""The levels that methods are judged on stay what they were when no method had seen them.

A failure here means that numbers of `gradgene benchmark truth` can no longer be compared with those
that are published: take the change back, or give the changed level a new name.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

import anndata as ad
import numpy as np
import pytest

from gradgene.cells import FIRST_TEST_SEED, PLANTED_LEVELS, plant_cells

LEVELS = {
    "smoke": "195230aa917e5551c64e9994de5d42fbb467cf0e06057ce8aac4d0fb3345e316",
    "easy": "acd3aa0762e949226f1ef7ad40785a58d2964d63b484de7620cbd6a7afda70fb",
    "default": "693b799d3c785d82153ffa49d28f3f8e4fe1a1e3f0104d6786a39cb32a561db9",
    "hard": "51a896586798226be98e037c90083e69f984853d4e7f513143c171c02f2acf78",
}
#: Of the level "default" and simulation 1000: the cells that the benchmark of the README ran on.
CELLS = "711d95d204b296277503dcd6553edf210a0592b627c3fdd8fcc54b7d6ef28c66"


def digest_of_cells(adata: ad.AnnData) -> str:
    """sha256 of the counts, what each gene is, each cell's label, and the donors held out."""
    digest = hashlib.sha256()
    for part in (adata.X.indptr, adata.X.indices, adata.X.data.astype(np.int32)):
        digest.update(part.astype("<i4").tobytes())
    names = [adata.var["role"], adata.var["partner"], adata.obs["disease"], adata.obs["donor"]]
    texts = [[*map(str, column)] for column in (adata.var_names, *names, adata.uns["held_out"])]
    digest.update(json.dumps(texts).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("name", LEVELS)
def test_settings_of_a_level(name: str) -> None:
    text = json.dumps(asdict(PLANTED_LEVELS[name]), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == LEVELS[name]


def test_every_level_is_frozen() -> None:
    assert set(PLANTED_LEVELS) == set(LEVELS) and FIRST_TEST_SEED == 1000


def test_cells_of_the_default_level() -> None:
    adata = plant_cells(PLANTED_LEVELS["default"], FIRST_TEST_SEED).adata
    assert digest_of_cells(adata) == CELLS
