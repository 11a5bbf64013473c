"""Cells in which it is known which genes tell a case from a control.

Model
    A donor has a label and a batch; batches hold cases and controls in the proportions 2:1, 1:1
    and 1:2. Depth is lognormal, and greater in cases. A count is negative binomial around
    depth x mean of the gene. The mean depends on the label (main genes, up or down), on the cell's
    own state (pairs), on the cell type and the donor (all genes that say nothing) and on the batch
    (batch genes). Each gene of a pair is on in half of the cells of either label, and
    independently of every other gene; cases mostly have exactly one of a pair on, controls both
    or none, so that neither tells anything without the other. Copies are made of the molecules of
    a main gene and say nothing beyond it.
Log odds
    Given batch, depth and counts, log P(case) / P(control) is a sum: the prior of the batch, the
    normal densities of log depth, and log ratios of negative binomial likelihoods of main genes
    and of pairs (each a mixture over its four states). No classifier of new donors that sees the
    counts alone is better than the sign of this.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from gradgene.cells.synthetic.genes import CAUSAL, NEUTRAL, PlantedGenes
from gradgene.cells.synthetic.levels import PlantedLevel

__all__ = ["Planted", "plant_cells"]

CASE, CONTROL = "case", "control"
#: Batch -> donors that are cases, and that are controls; the first third of each is held out, or
#: one, so that held-out donors are confounded with the batch as the others are.
DONORS = {"batch1": (6, 3), "batch2": (4, 4), "batch3": (3, 6)}
CELL_TYPES = ("B cell", "T cell", "monocyte")
#: Standard deviation over cell types of the log mean of genes that say nothing.
TYPE_SD = 0.4
#: Mean of an ambient gene in its own cell type, and the median of what leaks into others.
MARKER, LEAK, LEAK_SD = 20.0, 0.5, 0.5
#: Batch genes have this mean in the middle batch.
BATCH_MEAN = 2.0
#: Means of genes without a role: median, and standard deviation of the logarithm.
NULL_MEAN, NULL_SD = 2.0, 0.8


@dataclass(frozen=True)
class Planted:
    """Planted cells and their truth, which travels in the AnnData.

    Attributes
    ----------
    adata
        Counts (cells, genes), CSR float32. `obs`: `disease` (case, control), `cell_type`, `donor`,
        `batch`, `depth`, and `log_odds` of being a case (natural logarithm). `var`: `role`, and
        `partner` (of a pair the other gene, of a copy its original, else ""). `obsm`:
        `xor_state` (cells, 2 x pairs) whether each gene of each pair is on, and `xor_log_odds`
        (cells, pairs), the part of each pair in the log odds.
    """

    adata: ad.AnnData

    @cached_property
    def genes(self) -> PlantedGenes:
        """What each gene is; pairs are in the order of `obsm`."""
        return PlantedGenes.of(self.adata)

    @property
    def held_out(self) -> tuple[str, ...]:
        """Donors that no model should see, both labels of every batch."""
        return tuple(map(str, self.adata.uns["held_out"]))

    def write(self, file: str | Path) -> Path:
        """Write everything to an `.h5ad`."""
        self.adata.write_h5ad(file)
        return Path(file)


def plant_cells(level: PlantedLevel, seed: int) -> Planted:
    """Draw the cells of a level; the same seed gives the same cells.

    Returns
    -------
    Planted
        Genes are in random order under names that say nothing, cells in random order.
    """
    rng = np.random.default_rng([seed, level.n_genes])
    obs, held_out = _cells(level, rng)
    role_g = np.repeat(list(level.sizes), list(level.sizes.values()))
    state_nx = _states(level, (obs["disease"] == CASE).to_numpy(), rng)
    means = _Means.draw(level, obs, rng)
    depth_n = obs["depth"].to_numpy()
    mean_ng = means.of(state_nx) * depth_n[:, None]
    counts_ng = _counts(mean_ng, level.dispersion, rng)
    at = {role: np.flatnonzero(role_g == role) for role in level.sizes}
    mains = np.concatenate([at["main_up"], at["main_down"]])
    originals = rng.choice(mains, size=level.n_copies, replace=False)
    counts_ng[:, at["copy"]] = rng.binomial(counts_ng[:, originals], level.copy_share)
    pair_nk = _pair_log_odds(level, counts_ng[:, at["xor"]], depth_n)
    obs["log_odds"] = _log_odds(level, obs, counts_ng[:, mains]) + pair_nk.sum(axis=1)

    place = rng.permutation(level.n_genes)  # where each gene goes
    order = np.argsort(place)
    name_g = np.array([f"GENE{i:03d}" for i in place])
    partner_g = np.full(level.n_genes, "", dtype=object)
    partner_g[at["copy"]] = name_g[originals]
    partner_g[at["xor"]] = name_g[at["xor"].reshape(-1, 2)[:, ::-1].ravel()]
    adata = ad.AnnData(
        sparse.csr_matrix(counts_ng[:, order].astype(np.float32)),
        obs=obs,
        var=pd.DataFrame({"role": role_g[order], "partner": partner_g[order]}, name_g[order]),
        uns={"xor_pairs": name_g[at["xor"]].reshape(-1, 2).astype(object), "held_out": held_out},
        obsm={"xor_state": state_nx.astype(np.int8), "xor_log_odds": pair_nk},
    )
    return Planted(adata)


def _cells(level: PlantedLevel, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Donor, label, batch, type and depth of every cell, and the donors that are held out."""
    donors, held_out = [], []
    for batch, sizes in DONORS.items():
        for label, size in zip((CASE, CONTROL), sizes, strict=True):
            names = [f"{batch}_{label}{i}" for i in range(size)]
            donors += [(name, label, batch) for name in names]
            held_out += names[: max(size // 3, 1)]
    row_n = rng.permutation(np.resize(np.arange(len(donors)), level.n_cells))
    table = pd.DataFrame(donors, columns=["donor", "disease", "batch"]).iloc[row_n]
    shift_n = np.where(table["disease"] == CASE, 0.5, -0.5) * np.log(level.depth_fold)
    obs = table.assign(
        cell_type=rng.choice(CELL_TYPES, level.n_cells),
        depth=np.exp(rng.normal(shift_n, level.depth_sd)),
    )
    obs.index = pd.Index([f"cell{i}" for i in range(level.n_cells)])
    return obs.astype(dict.fromkeys(("donor", "disease", "batch", "cell_type"), "category")), (
        np.array(held_out, dtype=object)
    )


def _states(level: PlantedLevel, case_n: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(cells, 2 x pairs) bool: which genes of the pairs are on."""
    shape = (len(case_n), level.n_xor)
    first_nk = rng.random(shape) < 0.5
    as_meant_nk = rng.random(shape) < level.xor_fidelity
    differ_nk = as_meant_nk == case_n[:, None]
    return np.stack([first_nk, first_nk ^ differ_nk], axis=2).reshape(len(case_n), -1)


@dataclass(frozen=True)
class _Means:
    """(cells, genes) means at median depth, but for what depends on a pair's state."""

    level: PlantedLevel
    mean_ng: np.ndarray
    xor_g: np.ndarray

    @classmethod
    def draw(cls, level: PlantedLevel, obs: pd.DataFrame, rng: np.random.Generator) -> _Means:
        sizes, start = level.sizes, 0
        at: dict[str, slice] = {}
        for role, size in sizes.items():
            at[role], start = slice(start, start + size), start + size
        log_g = np.log(NULL_MEAN) + rng.normal(scale=NULL_SD, size=level.n_genes)
        log_g[at["decoy"]] = np.log(level.decoy_mean)
        log_g[at["batch"]] = np.log(BATCH_MEAN)
        log_g[at["main_up"]] = log_g[at["main_down"]] = np.log(level.main_mean)
        log_ng = np.tile(log_g, (len(obs), 1))
        # What says nothing differs between types and donors; what tells the label does not, so
        # that the log odds of a new donor are known exactly.
        telling_g = np.zeros(level.n_genes, dtype=bool)
        for role in (*CAUSAL, *NEUTRAL):
            telling_g[at[role]] = True
        for column, sd in (("cell_type", TYPE_SD), ("donor", level.donor_sd)):
            code_n = obs[column].cat.codes.to_numpy()
            effect = rng.normal(scale=sd, size=(code_n.max() + 1, level.n_genes)) * ~telling_g
            log_ng += effect[code_n]
        log_ng[:, at["ambient"]] = _ambient(sizes["ambient"], obs, rng)
        batch_n = obs["batch"].cat.codes.to_numpy() - 1
        sign_g = np.where(np.arange(sizes["batch"]) % 2 == 0, -1, 1)
        log_ng[:, at["batch"]] += np.log(level.batch_fold) * batch_n[:, None] * sign_g
        side_n = np.where(obs["disease"] == CASE, 0.5, -0.5)[:, None] * np.log(level.main_fold)
        log_ng[:, at["main_up"]] += side_n
        log_ng[:, at["main_down"]] -= side_n
        return cls(level, np.exp(log_ng), np.arange(level.n_genes)[at["xor"]])

    def of(self, state_nx: np.ndarray) -> np.ndarray:
        """(cells, genes) means where the genes of pairs are on as `state_nx` says."""
        mean_ng = self.mean_ng.copy()
        mean_ng[:, self.xor_g] = np.where(state_nx, self.level.xor_on, self.level.xor_off)
        return mean_ng


def _ambient(n: int, obs: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """(cells, genes) log means of markers of one type each that leak as the donor has it."""
    donor_n = obs["donor"].cat.codes.to_numpy()
    leak_n: np.ndarray = rng.normal(np.log(LEAK), LEAK_SD, size=donor_n.max() + 1)[donor_n]
    type_n = obs["cell_type"].cat.codes.to_numpy()
    own_ng = type_n[:, None] == np.arange(n) % len(CELL_TYPES)
    return np.where(own_ng, np.log(MARKER), leak_n[:, None])


def _counts(mean_ng: np.ndarray, dispersion: float, rng: np.random.Generator) -> np.ndarray:
    noise_ng = rng.gamma(1 / dispersion, dispersion, size=mean_ng.shape)
    return rng.poisson(mean_ng * noise_ng)


def _log_likelihood(counts: np.ndarray, mean: np.ndarray, dispersion: float) -> np.ndarray:
    """Log of the negative binomial, but for a term of the counts alone."""
    size = 1 / dispersion
    log_p = counts * np.log(mean / (size + mean)) - size * np.log1p(mean / size)
    return np.asarray(log_p)


def _log_odds(level: PlantedLevel, obs: pd.DataFrame, main_nm: np.ndarray) -> np.ndarray:
    """(cells,) log odds from batch, depth and the main genes: up first, then down."""
    prior = {batch: np.log(case / control) for batch, (case, control) in DONORS.items()}
    depth_n = obs["depth"].to_numpy()
    found_n = obs["batch"].map(prior).to_numpy(dtype=float)
    # Two normals of the same spread around ± half the shift.
    found_n = found_n + np.log(depth_n) * np.log(level.depth_fold) / level.depth_sd**2
    half = np.sqrt(level.main_fold)
    high_nm, low_nm = (
        _log_likelihood(main_nm, depth_n[:, None] * level.main_mean * fold, level.dispersion)
        for fold in (half, 1 / half)
    )
    sign_m = np.repeat([1, -1], [level.n_up, level.n_down])
    return np.asarray(found_n + ((high_nm - low_nm) * sign_m).sum(axis=1))


def _pair_log_odds(level: PlantedLevel, counts_nx: np.ndarray, depth_n: np.ndarray) -> np.ndarray:
    """(cells, pairs) log P(counts | case) / P(counts | control)."""
    on_nx, off_nx = (
        _log_likelihood(counts_nx, depth_n[:, None] * mean, level.dispersion)
        for mean in (level.xor_on, level.xor_off)
    )
    shape = (len(depth_n), level.n_xor, 2)
    # P(on | counts) of each gene by itself, which is on in half of all cells.
    on_nk2 = 1 / (1 + np.exp(np.clip(off_nx - on_nx, -700, 700))).reshape(shape)
    first_nk, second_nk = on_nk2[..., 0], on_nk2[..., 1]
    differ_nk = first_nk * (1 - second_nk) + second_nk * (1 - first_nk)
    meant = level.xor_fidelity
    case_nk = meant * differ_nk + (1 - meant) * (1 - differ_nk)
    return np.asarray(np.log(case_nk) - np.log1p(-case_nk))
