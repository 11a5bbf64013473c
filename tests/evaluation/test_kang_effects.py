"""The labels that conf/evaluation/kang.yaml maps are those of the published table."""

from __future__ import annotations

import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from gradgene.evaluation import KnownEffects, effect_agreement

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("GRADGENE_SHARED", ROOT.parent / "shared"))
CELLS = SHARED / "data" / "kang2018_pbmc_ifnb.h5ad"
TABLE = SHARED / "reference" / "kang2018_tableS1_ifnb_de_by_cell_type.tsv.gz"
#: Genes and Spearman's correlation of the cells' plain fold change, recorded with the data set.
RECORDED = {
    "cd14": (2244, 0.856),
    "cd19": (581, 0.849),
    "cd4": (536, 0.836),
    "nk": (348, 0.681),
    "cd8": (246, 0.751),
    "cd16 mono": (1216, 0.845),
    "dc": (578, 0.845),
    "megakaryocyte": (107, 0.764),
}

pytestmark = pytest.mark.skipif(
    not (CELLS.is_file() and TABLE.is_file()), reason="the data of Kang 2018 are not here"
)


def test_plain_fold_changes_agree_as_recorded() -> None:
    node = yaml.safe_load((ROOT / "conf" / "evaluation" / "kang.yaml").read_text())["effects"]
    known = KnownEffects(
        **{k: v for k, v in node.items() if k != "_target_"} | {"file": str(TABLE)}
    )
    effects = known.read()
    cells = ad.read_h5ad(CELLS)
    counts = sparse.csr_matrix(cells.X, dtype=float)
    depth = np.asarray(counts.sum(axis=1)).ravel()
    relative = sparse.csr_matrix(sparse.diags(1e4 / depth) @ counts)
    stimulated = (cells.obs["condition"] == "IFN-beta stimulated").to_numpy()
    found = {}
    for label, members in known.members(effects).items():
        here = cells.obs["cell_type"].isin(members).to_numpy()
        means = [
            np.asarray(relative[here & side].mean(axis=0)).ravel()
            for side in (stimulated, ~stimulated)
        ]
        change = np.log2((means[0] + 0.05) / (means[1] + 0.05))
        change_g = pd.Series(change, index=cells.var_names.astype(str))
        published = effects[effects["label"] == label].set_index("gene")["log_fold_change"]
        agreement = effect_agreement(change_g.abs(), pd.Series(np.sign(change_g)), published)
        found[label] = (agreement.n_genes, round(agreement.spearman, 3))
    assert found == RECORDED
