"""Tables of sanity checks, stability and agreement with made-up numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gradgene.evaluation.agreement import consensus, correlations
from gradgene.evaluation.sanity import Control, sanity_table
from gradgene.evaluation.stability import pair_stability

__all__ = ["rankings", "sanity", "stability"]

N_GENES = 40
STEPS = ("head", "block 2", "block 1", "embeddings")


def sanity(left: float = 0.0, draws: int = 2) -> pd.DataFrame:
    """A cascade whose last step keeps `left` of the trained scores, and the other controls."""
    rng = np.random.default_rng(0)
    trained = rng.normal(size=N_GENES)
    controls = [Control("reference", "trained", trained, 64, p_share=0.3)]
    controls.append(Control("reference", "two halves", trained + 0.1, 32))
    for draw in range(draws):
        for depth, step in enumerate(STEPS, 1):
            kept = 1 - (1 - left) * depth / len(STEPS)
            score = kept * trained + (1 - kept) * rng.permutation(trained)
            controls.append(Control("randomisation", step, score, 64, depth, draw, draw))
        for step in ("same gene", "same values"):
            controls.append(Control("gene_shuffle", step, rng.permutation(trained), 64, draw=draw))
    note = "no donor has cells of both labels"
    controls.append(Control("label_permutation", "permuted labels", None, 0, note=note))
    frame = sanity_table(trained, rng.random(N_GENES) + 0.1, controls)
    return frame.assign(threshold=0.5, judged_by="spearman", passed=left <= 0.5)


def stability() -> pd.DataFrame:
    """Samples of 60 pairs in three halvings, and two donors left out."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=N_GENES) + rng.normal(size=(60, N_GENES))
    pairs = pair_stability(scores, np.arange(60), n_draws=3, top_k=10)
    donors = pd.DataFrame(
        {
            "donor": np.repeat(["d0", "d1"], 2),
            "against": ["all", "donor"] * 2,
            "n_pairs": 30,
            "spearman": [0.9, 0.5, 0.8, 0.4],
            "top_overlap": [1.0, 0.6, 0.9, 0.5],
        }
    )
    both = [pairs.assign(kind="pairs"), donors.assign(kind="donors")]
    return pd.concat(both, ignore_index=True).assign(top_k=10)


def rankings(n_methods: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Agreement of so many methods, signed and absolute, and their consensus."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=N_GENES)
    names, parts = [], []
    for i in range(n_methods):
        score = signal + 0.7 * rng.normal(size=N_GENES)
        names.append(f"method{i}/forward")
        for name, values in ((names[-1], score), (f"{names[-1]}/abs", np.abs(score))):
            genes = [f"G{g}" for g in range(N_GENES)]
            parts.append(pd.DataFrame({"ranking": name, "gene": genes, "score": values}))
    long = pd.concat(parts)
    agreed = correlations(long, 10).assign(top_k=10)
    return agreed, consensus(long, names, 10).assign(top_k=10)
