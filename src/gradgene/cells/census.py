"""Get cells of chosen labels out of CELLxGENE Census: labels first, then counts of the drawn rows.

The only file of gradgene that reaches the network, and only when a user asks for it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from gradgene.cells.drawing import draw_cells
from gradgene.cells.labels import as_labels
from gradgene.cells.schema import require_label
from gradgene.errors import CellsError, ConfigError, LabelError, closest, require_extra

__all__ = ["CENSUS_COLUMNS", "CensusQuery", "fetch_cells"]

#: Obs columns of the CELLxGENE schema that are kept, besides those of the query.
CENSUS_COLUMNS = (
    "cell_type",
    "tissue",
    "disease",
    "development_stage",
    "sex",
    "assay",
    "donor_id",
    "dataset_id",
    "tissue_general",
)
ORGANISM = "homo_sapiens"
#: What the schema writes where a cell is of one of several donors, besides missing labels.
POOLED = ("pooled",)


@dataclass(frozen=True)
class CensusQuery:
    """Which human cells to get, how many, and from which release.

    Parameters
    ----------
    labels
        Obs column -> labels wanted, as the Census spells them. A cell must fit every column.
    n
        Cells to draw: as many of each label of `balanced` (fewer where there are fewer), from each
        label as equally as possible over its donors.
    seed
        Seed of the draw.
    census
        A release (`stable`, `latest`, `2025-01-30`) or the path of a SOMA store in Census layout.

    Raises
    ------
    ConfigError
        For no label, or fewer cells than labels to balance.
    """

    labels: dict[str, tuple[str, ...]]
    n: int = 5000
    seed: int = 0
    census: str = "stable"

    def __post_init__(self) -> None:
        if not self.labels or not all(self.labels.values()):
            raise ConfigError(
                "names no label",
                where="gradgene data fetch",
                expected="at least one COLUMN=LABEL",
                fix='for example "disease=Alzheimer disease,normal"',
            )
        wanted = len(self.labels[self.balanced])
        if self.n < wanted:
            raise ConfigError(
                "asks for too few cells",
                where="n",
                expected=f"{wanted} or more, one for each label of {self.balanced!r}",
                found=str(self.n),
            )

    @property
    def balanced(self) -> str:
        """The column whose labels get equal numbers of cells: the first with several labels."""
        several = [column for column, labels in self.labels.items() if len(labels) > 1]
        return next(iter([*several, *self.labels]))

    @property
    def value_filter(self) -> str:
        """The query in the words of SOMA; repeated copies of a cell are never wanted."""
        columns = [f"{column} in {list(labels)!r}" for column, labels in self.labels.items()]
        return " and ".join(["is_primary_data == True", *columns])


def fetch_cells(query: CensusQuery) -> ad.AnnData:
    """Draw the cells that `query` describes and read their raw counts.

    Returns
    -------
    (cells, genes) counts as CSR float32, in the order of the Census; var is indexed by Ensembl id
    and has `feature_name`; `uns["census"]` holds the release and the query.

    Raises
    ------
    ConfigError
        If cellxgene-census is not installed.
    CellsError, LabelError
        If the Census cannot be opened or read, a column or label is not in it, or no cell of a
        label is left.
    """
    require_extra("census", "cellxgene_census", where="gradgene data fetch")
    import cellxgene_census as package

    local = Path(query.census).expanduser()
    try:
        with _opened(package, query.census, local) as census:
            obs_frame = census["census_data"][ORGANISM].obs
            _check_labels(obs_frame, query)
            obs = _known_donors(_read_obs(obs_frame, query))
            rows_n = _draw(obs, query)
            adata = _read_counts(package, census, obs.iloc[rows_n])
            adata.uns["census"] = _source(census, query)
    except Exception as error:
        if isinstance(error, CellsError) or not _of_the_store(error):
            raise
        raise CellsError(
            f"cannot be read: {type(error).__name__}: {' '.join(str(error).split())[:300]}",
            where=f"census={query.census}",
            fix="check the network, or name a release (census=2025-01-30) or a local SOMA store",
        ) from error
    return adata


def _of_the_store(error: Exception) -> bool:
    """Whether the store is not there, not reachable or not laid out like a Census.

    tiledbsoma, TileDB and requests each have errors of their own for it.
    """
    known = isinstance(error, OSError | ValueError | RuntimeError | KeyError)
    return known or type(error).__module__.startswith("tiledbsoma")


def _opened(package: ModuleType, census: str, local: Path) -> Any:
    if local.is_dir():
        return package.open_soma(uri=str(local.resolve()))
    if "://" in census:
        return package.open_soma(uri=census)
    if "/" in census:
        raise CellsError(
            f"no such folder: {local}", where="census", fix="name a release or a SOMA store"
        )
    return package.open_soma(census_version=census)


def _check_labels(obs_frame: Any, query: CensusQuery) -> None:
    """Refuse columns and labels that the Census does not have, before reading any row."""
    columns = [name for name in obs_frame.schema.names if not name.startswith("soma_")]
    for column, labels in query.labels.items():
        if column not in columns:
            raise LabelError(
                f"the Census has no obs column {column!r}",
                where="gradgene data fetch",
                expected=f"one of {closest(column, columns, n=12)}",
            )
        if not hasattr(obs_frame.schema.field(column).type, "value_type"):
            continue  # not dictionary-encoded: there is no list of its labels
        known = obs_frame.get_enumeration_values([column])[column].to_pylist()
        for label in labels:
            if label not in known:
                raise LabelError(
                    f"the Census has no label {label!r} in column {column!r}",
                    where="gradgene data fetch",
                    expected=f"one of {closest(label, known)}",
                    fix="correct the label (labels are case-sensitive)",
                )


def _read_obs(obs_frame: Any, query: CensusQuery) -> pd.DataFrame:
    """Every row that fits, with its labels; no expression value is read."""
    columns = list(dict.fromkeys(["soma_joinid", *CENSUS_COLUMNS, *query.labels]))
    absent = [c for c in columns if c not in obs_frame.schema.names]
    if absent:
        raise CellsError(
            f"lacks the obs column {absent[0]!r} of the CELLxGENE schema",
            where=f"census={query.census}",
        )
    table = obs_frame.read(value_filter=query.value_filter, column_names=columns).concat()
    obs: pd.DataFrame = table.to_pandas()[columns]
    return obs.sort_values("soma_joinid", ignore_index=True)


def _known_donors(obs: pd.DataFrame) -> pd.DataFrame:
    """Leave out cells of no known donor: a study cannot hold them out."""
    donors = as_labels(obs["donor_id"])
    return obs[~donors.isna() & ~donors.isin(POOLED)].reset_index(drop=True)


def _draw(obs: pd.DataFrame, query: CensusQuery) -> np.ndarray:
    """Positions of the drawn rows, ascending."""
    counts = {str(k): int(v) for k, v in obs[query.balanced].value_counts().items() if v}
    labels = query.labels[query.balanced]
    for label in labels:
        require_label(label, counts, column=query.balanced, where="gradgene data fetch")
    return draw_cells(obs, query.balanced, labels, "donor_id", query.n, query.seed)


def _read_counts(package: ModuleType, census: Any, obs: pd.DataFrame) -> ad.AnnData:
    with warnings.catch_warnings():
        # anndata tells tiledbsoma that it turns row numbers into text; names are given below.
        warnings.filterwarnings("ignore", message="Transforming to str index")
        read = package.get_anndata(
            census,
            ORGANISM,
            obs_coords=obs["soma_joinid"].to_numpy(),
            obs_column_names=["soma_joinid"],
            var_column_names=["feature_id", "feature_name"],
        )
    if read.obs["soma_joinid"].tolist() != obs["soma_joinid"].tolist():
        raise CellsError("gave other rows than were asked for", where="CELLxGENE Census")
    x = read.X
    labels = obs.drop(columns="soma_joinid").astype(str).astype("category")
    return ad.AnnData(
        sparse.csr_matrix((x.data.astype(np.float32), x.indices, x.indptr), shape=x.shape),
        obs=labels.set_index("census-" + obs["soma_joinid"].astype(str).to_numpy()),
        var=read.var[["feature_id", "feature_name"]]
        .astype(str)
        .set_index("feature_id")
        .rename_axis(None),
    )


def _source(census: Any, query: CensusQuery) -> dict[str, str | int]:
    """What a reader needs to get the same cells again."""
    version = query.census
    if "census_info" in census:
        summary = census["census_info"]["summary"].read().concat().to_pandas()
        facts = dict(zip(summary["label"], summary["value"], strict=True))
        version = str(facts.get("census_build_date", version))
    return {
        "version": version,
        "census": query.census,
        "organism": ORGANISM,
        "filter": query.value_filter,
        "balanced": query.balanced,
        "n": query.n,
        "seed": query.seed,
    }
