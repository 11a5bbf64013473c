"""Write a small run folder as the contract describes it, with made-up numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

RATIOS = {
    "lowest_first": [0.0, 0.5, 0.8, 0.9, 0.95, 0.98],
    "highest_first": [0.0, 0.02, 0.05, 0.2],
}
#: Ranking → how soon it loses balanced accuracy when its worst, or its best, genes go first.
RANKINGS = {
    "deeplift/forward": (0.05, 9.0),
    "deeplift/forward/abs": (0.08, 8.0),
    "grad_x_delta/contrast": (0.35, 2.0),
    "grad_x_delta/contrast/abs": (0.40, 2.2),
    "grad_x_delta/forward": (0.15, 6.0),
    "grad_x_delta/forward/abs": (0.10, 6.5),
    "grad_x_delta/paper_mean": (0.55, 1.5),
    "integrated_gradients/forward": (0.07, 8.5),
    "deg": (0.06, 8.8),
    "hvg": (0.20, 3.0),
    "expression": (0.30, 2.5),
    "random": (0.70, 0.6),
}


def gene_table(
    n: int = 300, *, seed: int = 0, method: str = "deeplift", flags: bool = False
) -> pd.DataFrame:
    """`n` heavy-tailed gene scores, the best of them interferon genes, and a category row.

    With `flags` the genes of rank 2, 5 and 40 carry technical flags.
    """
    rng = np.random.default_rng(seed)
    score = rng.standard_t(1.6, n) * 0.004
    score[: n // 2] *= 0.05
    score[rng.integers(n // 2, n, 12)] += rng.uniform(0.1, 0.9, 12)
    frame = pd.DataFrame({"gene": [f"GENE{i}" for i in range(n)], "score": score})
    known = ["ISG15", "IFI6", "IFIT3", "ISG20", "IFIT1", "MX1", "LY6E", "IFITM3", "CXCL10", "B2M"]
    best = frame["score"].nlargest(len(known)).index
    frame.loc[best, "gene"] = known[: len(best)]
    se = np.abs(score) * 0.12 + 0.001
    frame = frame.assign(
        ensembl_id=[f"ENSG{i:011d}" for i in range(n)],
        rank=frame["score"].rank(ascending=False, method="first").astype("Int64"),
        score_present=score * 1.4,
        forward=score,
        backward=score * -0.7,
        score_donors=score * 0.98,
        presence=score * 0.2,
        mean_abs=np.abs(score) * 1.1,
        mean_abs_present=np.abs(score) * 1.5,
        direction=np.where(rng.random(n) < 0.6, "up", "down"),
        log_fold_change=rng.normal(0, 1, n),
        se=se,
        ci_low=score - 2.4 * se,
        ci_high=score + 2.4 * se,
        p=np.clip(rng.random(n) * 0.2, 0, 1),
        p_adjusted=np.clip(rng.random(n) * 0.4, 0, 1),
        p_null=np.clip(rng.random(n) * 0.6, 0, 1),
        flags=None,
        n_pairs=rng.integers(3, 160, n),
        n_cells=rng.integers(3, 120, n),
        n_donors=4,
        between_baseline_variance=np.nan,
        depth_correlation=rng.uniform(-0.9, 0.9, n),
        explained_share=rng.random(n) ** 3,
        method=method,
        baseline="cell_state",
        split="held_out",
    )
    if flags:
        named = frame["rank"].map({2: "ribosomal", 5: "cell_cycle;depth", 40: "mitochondrial"})
        frame["flags"] = named.astype(object).where(named.notna(), None)
    category = pd.DataFrame({"gene": ["@cell_type"], "score": [0.2], "method": [method]})
    return pd.concat([frame, category], ignore_index=True)


def curves_table(*, rank_source: str = "held_out", seed: int = 0) -> pd.DataFrame:
    """Pruning curves of twelve rankings, ten draws of `random` among them."""
    rng = np.random.default_rng(seed)
    rows = []
    for ranking, (keep, fall) in RANKINGS.items():
        for draw in range(10 if ranking == "random" else 1):
            for order, ratios in RATIOS.items():
                for ratio in ratios:
                    gone = ratio**6 * keep if order == "lowest_first" else 1 - np.exp(-fall * ratio)
                    value = 0.5 + 0.46 * (1 - min(gone, 1)) + rng.normal(0, 0.012)
                    width = None if ranking == "random" else 0.03
                    rows.append(
                        {"ranking": ranking, "draw": draw, "order": order, "ratio": ratio}
                        | {"arm": "both", "metric": "balanced_accuracy", "value": value}
                        | {"ci_low": None if width is None else value - width}
                        | {"ci_high": None if width is None else value + width}
                        | {"n_cells": 400, "n_donors": 2, "rank_source": rank_source}
                        | {"split": "held_out", "seed": 0}
                    )
    return pd.DataFrame(rows).astype({"ci_low": float, "ci_high": float})


def pair_table(n: int = 160, *, seed: int = 0) -> pd.DataFrame:
    """A pair table whose completeness errors are of float32's size."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "pair": np.arange(n),
            "input": [f"cell{i}" for i in range(n)],
            "baseline": [f"control{i}" for i in range(n)],
            "donor_input": rng.choice(["1015", "1256"], n),
            "donor_baseline": rng.choice(["1015", "1256"], n),
            "n_genes_input": rng.integers(200, 500, n),
            "n_genes_baseline": rng.integers(200, 500, n),
            "n_shared": rng.integers(50, 200, n),
            "f_input": rng.normal(4, 1, n),
            "f_baseline": rng.normal(-4, 1, n),
            "forward_delta": rng.normal(0, 1e-6, n),
            "backward_delta": rng.normal(0, 1e-6, n),
            "relative_delta": 10 ** rng.normal(-7, 0.4, n),
        }
    )


def example_table(genes: int = 3, *, name: str = "B cell") -> pd.DataFrame:
    """Two pairs one by one: a category, `genes` genes and the rest lead from -4 to 4."""
    rows = []
    for pair, standing in ((7, "typical"), (9, "strong")):
        share = 8.0 / (genes + 2)
        facts = {"pair": pair, "standing": standing, "stratum": name, "input": f"cell{pair}"}
        facts |= {"baseline": f"control{pair}", "donor_input": "1015", "donor_baseline": None}
        facts |= {"f_input": 4.0, "f_baseline": -4.0}
        kinds = [("category", "cell_type", 0), *(("gene", f"GENE{i}", 1) for i in range(genes))]
        for kind, gene, n in [*kinds, ("rest", None, 120)]:
            known = {"value_input": 3.25, "value_baseline": 0.0} if kind == "gene" else {}
            rows.append(facts | {"kind": kind, "name": gene, "score": share, "n_genes": n} | known)
    return pd.DataFrame(rows)


def history_table(seed: int = 0) -> pd.DataFrame:
    """A sparse training log, as CSV loggers write it: training and validation on separate rows."""
    rng = np.random.default_rng(seed)
    rows = []
    for epoch in range(8):
        rows.append({"epoch": epoch, "train/loss": 0.7 * np.exp(-epoch / 2) + 0.05})
        rows.append(
            {
                "epoch": epoch,
                "val/loss": 0.6 * np.exp(-epoch / 2) + 0.1 + rng.normal(0, 0.01),
                "val/balanced_accuracy": 0.96 - 0.4 * np.exp(-epoch / 1.3),
            }
        )
    return pd.DataFrame(rows)


def confusion_table(extra: str = "dendritic") -> pd.DataFrame:
    """Test cells by true and named label; nobody has or is given the label `extra`."""
    labels = ["IFN-beta stimulated", "control", extra]
    counts = {(0, 0): 2101, (0, 1): 111, (1, 0): 79, (1, 1): 2021}
    return pd.DataFrame(
        [
            {"truth": truth, "predicted": said, "n_cells": counts.get((i, j), 0)}
            for i, truth in enumerate(labels)
            for j, said in enumerate(labels)
        ]
    )


def donor_table() -> pd.DataFrame:
    """The model's figures on two donors, of which one has cells of one label only."""
    return pd.DataFrame(
        {
            "donor": ["1015", "1256"],
            "n_cells": [4000, 312],
            "n_cells/control": [1788, 312],
            "accuracy": [0.95, 0.97],
            "balanced_accuracy": [0.9512, 0.97],
            "macro_f1": [0.95, 0.97],
            "auroc": [0.9876, None],
            "ece": [0.021, 0.034],
        }
    )


def strata_table() -> pd.DataFrame:
    """Two strata of the test pairs, the second of which skipped cells."""
    return pd.DataFrame(
        {
            "stratum": ["B cell", "NK cell"],
            "n_pairs": [120, 40],
            "n_inputs": [120, 40],
            "n_baselines": [88, 31],
            "n_controls": [301, 77],
            "n_donors_input": [4, 4],
            "n_donors_baseline": [4, 3],
            "n_skipped": [0, 3],
            "reason": [None, "no 'control' cell in 'NK cell'"],
            "split": "test",
        }
    )


PLAN = {
    "deeplift": {
        "test": {
            "n_pairs": 160,
            "estimated_seconds": 4.125,
            "estimated_peak_mb": 1180,
            "key": "abc",
            "seconds": 3.9,
            "peak_mb": 1201,
        }
    },
    "grad_x_delta": {
        "test": {"n_pairs": 160, "estimated_seconds": 1.25, "estimated_peak_mb": 1190, "key": "abc"}
    },
}


def label_tables() -> pd.DataFrame:
    """Gene tables of two cell types."""
    tables = []
    for seed, (label, n_pairs) in enumerate({"B cell": 17, "NK cell": 6}.items()):
        table = gene_table(40, seed=seed, flags=True).assign(category="cell_type", label=label)
        table.loc[table["rank"].isna(), "n_pairs"] = n_pairs
        tables.append(table)
    return pd.concat(tables)


def effects_table() -> pd.DataFrame:
    """Agreement of five rankings with the effects in two cell types; one value is not defined."""
    values = {
        "random": (0.1, 0.2),
        "deeplift/forward": (0.6, 0.4),
        "hvg": (-0.3, None),
        "log_fold_change": (0.9, 0.7),
        "grad_x_delta/contrast": (0.3, 0.35),
    }
    return pd.DataFrame(
        [
            {"ranking": name, "label": label, "n_genes": 900, "spearman": value}
            for name, pair in values.items()
            for label, value in zip(("B cell", "NK cell"), pair, strict=True)
        ]
    )


def enrichment_table() -> pd.DataFrame:
    """Three gene sets of two collections, not in the order of their p."""
    return pd.DataFrame(
        {
            "gene_set": ["MARKERS_T_CELLS", "HALLMARK_INTERFERON_ALPHA_RESPONSE", "OTHER"],
            "collection": ["cells", "hallmark", "hallmark"],
            "n_set": [50, 80, 20],
            "n_overlap": [4, 15, 1],
            "odds_ratio": [3.0, 40.0, 1.0],
            "p": [1e-3, 1e-12, 0.4],
            "p_adjusted": [1e-2, 1e-10, 0.8],
            "genes": ["CD3D;IL7R", "ISG15;MX1", "ACTB"],
        }
    )


def summary_table() -> pd.DataFrame:
    """Areas between each ranking's curve and random's."""
    return pd.DataFrame(
        [
            {"ranking": name, "order": order, "arm": "both", "metric": "balanced_accuracy"}
            | {"area": 0.1 - keep / 10, "ci_low": 0.05 - keep / 10, "ci_high": 0.15 - keep / 10}
            for name, (keep, _) in RANKINGS.items()
            if name != "random"
            for order in RATIOS
        ]
    )


CONFIG = {
    "study": {
        "name": "kang_ifnb",
        "target": "condition",
        "input": "IFN-beta stimulated",
        "baseline": "control",
        "match_on": ["cell_type"],
        "donor": "donor",
        "filters": {"demuxlet_call": ["singlet"]},
        "seed": 0,
        "compare": ["grad_x_delta"],
    },
    "data": {"path": "kang2018_pbmc_ifnb.h5ad", "values": "counts"},
    "model": {"d_model": 64, "n_layers": 2},
    "attribution": {"name": "deeplift"},
    "ranking": {"importance": "forward", "sign": "signed"},
    "pairs": {"per_cell": 1, "max_pairs": 160},
    "pruning": {"rank_source": "held_out"},
}
METRICS = {
    "test/balanced_accuracy": 0.957,
    "test/macro_f1": 0.956,
    "test/accuracy": 0.958,
    "test/contrast_balanced_accuracy": 0.957,
    "test/n_cells": 4312,
    "attribution/deeplift/relative_delta_p50": 9.1e-8,
    "attribution/deeplift/relative_delta_p99": 5.2e-7,
    "attribution/grad_x_delta/relative_delta_p50": 0.97,
    "attribution/grad_x_delta/relative_delta_p99": 3.4,
    "recovery/deeplift/forward@30": 19,
    "recovery/grad_x_delta/contrast@30": 9,
    "recovery/deg@30": 29,
    "recovery/hvg@30": 2,
    "pairs/n_pairs": 160,
    "pairs/n_skipped": 3,
    "attribution/deeplift/zero_forward": 0.031,
    "attribution/deeplift/zero_backward": 0.032,
    "attribution/deeplift/zero_importance": 0.031,
    "attribution/grad_x_delta/zero_forward": 0.31,
    "attribution/grad_x_delta/zero_backward": 0.47,
    "attribution/grad_x_delta/zero_importance": 0.02,
    "attribution/deeplift/n_donors_input": 4,
    "attribution/deeplift/n_donors_baseline": 4,
    "attribution/deeplift/n_skipped_pairs": 0,
    "effects/deeplift/forward": 0.5,
    "oddity/of_someone": 1.5,
}
DATA_REPORT = {
    "n_cells_read": 24673,
    "n_cells_kept": 24562,
    "dropped": {"all_zero": 3, "filters": 108},
    "split": "held-out donors",
    "notes": ["2 donors held out: 1015, 1256"],
    "table": [
        {"split": split, "label": label, "n_cells": cells, "n_donors": donors}
        for split, label, cells, donors in (
            ("train", "control", 8000, 6),
            ("train", "IFN-beta stimulated", 8100, 6),
            ("test", "control", 2100, 2),
            ("test", "IFN-beta stimulated", 2212, 2),
        )
    ],
}


def write_run(
    folder: Path, changes: Mapping[str, object] | None = None, *, n_genes: int = 300
) -> Path:
    """Write a finished run to `folder`; `changes` replaces a part by name, None leaves it out."""
    parts: dict[str, object] = {
        "config.yaml": CONFIG,
        "provenance.json": {
            "command": "gradgene study experiment=kang_ifnb study.seed=0",
            "versions": {"gradgene": "0.1.0", "torch": "2.13.0"},
            "hashes": {"config": "abc123", "data": "def456"},
            "device": "cpu",
        },
        "metrics.json": METRICS,
        "data_report.json": DATA_REPORT,
        "training.csv": history_table(),
        "confusion.parquet": confusion_table(),
        "test_donors.parquet": donor_table(),
        "attributions/genes.parquet": gene_table(n_genes, flags=True),
        "attributions/pairs.parquet": pair_table(),
        "attributions/examples.parquet": example_table(),
        "attributions/grad_x_delta/genes.parquet": gene_table(
            n_genes, seed=1, method="grad_x_delta"
        ),
        "attributions/strata.parquet": strata_table(),
        "attributions/plan.json": PLAN,
        "attributions/genes_by_label.parquet": label_tables(),
        "attributions/effects.parquet": effects_table(),
        "attributions/enrichment.parquet": enrichment_table(),
        "pruning/curves.parquet": curves_table(),
        "pruning/summary.parquet": summary_table(),
        "progress.jsonl": '{"stage": "train", "seconds": 61.2, "peak_memory_mb": 900}\n'
        '{"stage": "attribute", "seconds": 12.5, "peak_memory_mb": 1210.4}\n',
    }
    parts.update(changes or {})
    for name, part in parts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(part, pd.DataFrame):
            part.to_csv(path, index=False) if name.endswith(".csv") else part.to_parquet(path)
        elif isinstance(part, str):
            path.write_text(part, encoding="utf-8")
        elif isinstance(part, dict) and name.endswith(".yaml"):
            path.write_text(OmegaConf.to_yaml(part), encoding="utf-8")
        elif part is not None:
            path.write_text(json.dumps(part), encoding="utf-8")
    return folder
