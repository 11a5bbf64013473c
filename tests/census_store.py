"""A store of a few cells laid out as the CELLxGENE Census is, written with tiledbsoma.

The layout is the one that the Census schema describes: a collection with `census_data/homo_sapiens`
(an experiment: `obs`, `ms/RNA/var`, `ms/RNA/X/raw`) and `census_info/summary`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import tiledbsoma
from scipy import sparse

__all__ = ["BUILD_DATE", "write_census"]

BUILD_DATE = "2025-01-30"
#: Columns that the Census dictionary-encodes.
_CATEGORICAL = (
    "assay",
    "cell_type",
    "dataset_id",
    "development_stage",
    "disease",
    "donor_id",
    "sex",
    "tissue",
    "tissue_general",
)


def write_census(folder: Path, obs: pd.DataFrame, counts_ng: np.ndarray) -> Path:
    """Write the store; `obs` has a row a cell, `counts_ng` (cells, genes) whole numbers.

    Genes are `ENSG00000000000 …`, named `g0 …`.
    """
    n, g = counts_ng.shape
    var = pd.DataFrame(
        {
            "feature_id": [f"ENSG{i:011d}" for i in range(g)],
            "feature_name": [f"g{i}" for i in range(g)],
        }
    )
    summary = pd.DataFrame({"label": ["census_build_date"], "value": [BUILD_DATE]})
    obs = obs.astype({c: "category" for c in _CATEGORICAL if c in obs.columns})
    census: Any
    with tiledbsoma.Collection.create(folder.as_uri()) as census:
        info = census.add_new_collection("census_info")
        humans = census.add_new_collection("census_data").add_new_collection(
            "homo_sapiens", tiledbsoma.Experiment
        )
        rna = humans.add_new_collection("ms").add_new_collection("RNA", tiledbsoma.Measurement)
        matrices = rna.add_new_collection("X")
        raw = matrices.add_new_sparse_ndarray("raw", type=pa.float32(), shape=(n, g))
        raw.write(pa.SparseCOOTensor.from_scipy(sparse.coo_matrix(counts_ng.astype(np.float32))))
        homes = ((info, "summary", summary), (humans, "obs", obs), (rna, "var", var))
        tables = {_create(parent, name, frame): frame for parent, name, frame in homes}
    for uri, frame in tables.items():  # labels are lost if written while the collection is made
        with tiledbsoma.DataFrame.open(uri, "w") as table:
            table.write(_arrow(frame))
    return folder


def _create(parent: Any, name: str, frame: pd.DataFrame) -> str:
    table = parent.add_new_dataframe(
        name,
        schema=_arrow(frame).schema,
        index_column_names=["soma_joinid"],
        domain=[(0, len(frame) - 1)],
    )
    return str(table.uri)


def _arrow(frame: pd.DataFrame) -> pa.Table:
    numbered = frame.reset_index(drop=True).assign(soma_joinid=np.arange(len(frame)))
    return pa.Table.from_pandas(numbered, preserve_index=False)
