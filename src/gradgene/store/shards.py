"""Per-pair token scores as parquet shards of each process, with one manifest for all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gradgene.attribution import Attribution
from gradgene.errors import OutputError
from gradgene.provenance import file_hash
from gradgene.store.writing import atomic_path, write_json

__all__ = ["CONFIG_HASH", "PairShardWriter", "merge_manifests"]

#: Where each shard says itself which configuration it is of.
CONFIG_HASH = b"gradgene.config_hash"


class PairShardWriter:
    """Writes `part-<rank>-<n>.parquet` and, at its end, `manifest-<rank>.json`.

    Columns `pair, gene, forward, backward, embedding, presence`; phenotype tokens appear as
    `@category`; `presence` is null for methods that do not score it. `merge_manifests` makes a
    result of what all processes wrote.

    Parameters
    ----------
    folder
        Where the shards go. What is there is left alone until `resume` says what of it is known.
    genes, phenotypes
        Names by gene index and by phenotype slot.
    config_hash
        Kept in every shard and in the manifest, so that a reader can refuse to mix runs.
    rank
        Number of this process.
    """

    def __init__(
        self,
        folder: Path,
        genes: tuple[str, ...],
        phenotypes: tuple[str, ...],
        config_hash: str,
        rank: int = 0,
    ) -> None:
        self.folder, self.config_hash, self.rank = folder, config_hash, rank
        self.genes, self.n_genes = genes, len(genes)
        self.names = np.array([*genes, *(f"@{c}" for c in phenotypes)], dtype=object)
        self.shards: list[dict[str, Any]] = []

    def resume(self, shards: Sequence[dict[str, Any]]) -> bool:
        """Go on behind these shards, entries of an earlier manifest, and remove all others.

        To be called before the first `write`, with nothing to begin anew. False, and everything is
        removed, if one of them is no longer as it was written.
        """
        whole = all(_is_whole(self.folder / str(shard["file"]), shard) for shard in shards)
        self.shards = [*shards] if whole else []
        kept = {shard["file"] for shard in self.shards}
        for old in self.folder.glob(f"part-{self.rank:03d}-*.parquet"):
            if old.name not in kept:
                old.unlink()
        self._manifest.unlink(missing_ok=True)
        (self.folder / "manifest.json").unlink(missing_ok=True)
        return whole

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
        table = pa.Table.from_pandas(frame, preserve_index=False)
        table = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), CONFIG_HASH: self.config_hash.encode()}
        )
        file = self.folder / f"part-{self.rank:03d}-{len(self.shards):05d}.parquet"
        with atomic_path(file) as temporary:
            pq.write_table(table, temporary)
        self.shards.append(
            {
                "file": file.name,
                "rows": len(frame),
                "pairs": sorted(pairs.tolist()),
                "sha256": file_hash(file),
            }
        )

    def close(self) -> None:
        """Write the manifest of this process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {
            "config_hash": self.config_hash,
            "rank": self.rank,
            "genes": [*self.genes],
            "shards": self.shards,
        }
        write_json(about, self._manifest)

    @property
    def _manifest(self) -> Path:
        return self.folder / f"manifest-{self.rank:03d}.json"


def merge_manifests(folder: Path, world: int, n_pairs: int, skipped: Sequence[int] = ()) -> None:
    """Write `manifest.json` over the shards of all processes: only now they are a result.

    Called by one process when all have closed theirs. What earlier runs of more processes left is
    removed.

    Parameters
    ----------
    folder, world
        Where the shards are, and how many processes wrote them.
    n_pairs, skipped
        Pairs of the plan, and the numbers of those that have no scores.

    Raises
    ------
    OutputError
        If a process has left no manifest, or one of another configuration.
    """
    files = [folder / f"manifest-{rank:03d}.json" for rank in range(world)]
    for file in files:
        if not file.is_file():
            raise OutputError("a process has written no shards", where=str(file))
    parts = [json.loads(file.read_text()) for file in files]
    if len({part["config_hash"] for part in parts}) != 1:
        raise OutputError("processes wrote shards of several configurations", where=str(folder))
    shards = [shard for part in parts for shard in part["shards"]]
    named = {shard["file"] for shard in shards}
    for old in folder.glob("part-*.parquet"):
        if old.name not in named:
            old.unlink()
    whole = {
        "config_hash": parts[0]["config_hash"],
        "n_pairs": n_pairs,
        "skipped": sorted(skipped),
        "genes": parts[0]["genes"],
        "shards": shards,
    }
    write_json(whole, folder / "manifest.json")
    for file in folder.glob("manifest-*.json"):
        file.unlink()


def _is_whole(file: Path, shard: dict[str, Any]) -> bool:
    return file.is_file() and file_hash(file) == shard["sha256"]
