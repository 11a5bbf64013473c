"""Per-pair token scores as parquet shards with a manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from gradgene.attribution import Attribution
from gradgene.store.writing import write_json, write_parquet

__all__ = ["PairShardWriter"]


class PairShardWriter:
    """Writes `attributions/pairs/part-00000.parquet …` and, at the end, `manifest.json`.

    Columns `pair, gene, forward, backward, embedding, presence`; phenotype tokens appear as
    `@category`; `presence` is null for methods that do not score it.

    Parameters
    ----------
    folder
        Where the shards go; older shards there are replaced.
    genes, phenotypes
        Names by gene index and by phenotype slot.
    config_hash
        Kept in the manifest, so that a reader can refuse to mix runs.
    """

    def __init__(
        self, folder: Path, genes: tuple[str, ...], phenotypes: tuple[str, ...], config_hash: str
    ) -> None:
        self.folder, self.config_hash = folder, config_hash
        self.names = np.array([*genes, *(f"@{c}" for c in phenotypes)], dtype=object)
        self.n_genes = len(genes)
        self.shards: list[dict[str, object]] = []
        for old in folder.glob("part-*.parquet"):
            old.unlink()
        (folder / "manifest.json").unlink(missing_ok=True)

    def write(self, attribution: Attribution, pairs: np.ndarray) -> None:
        """Write a batch as one shard; `pairs` (pairs,) are the numbers of its rows in the plan."""
        features = attribution.gene_ids_pt.cpu().numpy().copy()
        n_header = attribution.n_header
        features[:, 1:n_header] = self.n_genes + np.arange(n_header - 1)
        row, column = np.nonzero(features >= 0)
        forward, backward = attribution.forward, attribution.backward
        values = {
            "forward": forward.scores_pt,
            "backward": backward.scores_pt,
            "embedding": forward.embedding_pt,
            "presence": forward.presence_pt,
        }
        frame = pd.DataFrame({"pair": pairs[row], "gene": self.names[features[row, column]]})
        for name, value in values.items():
            frame[name] = np.nan if value is None else value.cpu().numpy()[row, column]
        name = f"part-{len(self.shards):05d}.parquet"
        write_parquet(frame, self.folder / name)
        self.shards.append({"file": name, "rows": len(frame), "pairs": sorted(pairs.tolist())})

    def close(self) -> None:
        """Write the manifest: until it exists, the shards are not a result."""
        write_json(
            {"config_hash": self.config_hash, "shards": self.shards}, self.folder / "manifest.json"
        )
