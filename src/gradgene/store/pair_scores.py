"""Read the scores of single pairs, and refuse what is not the whole result of one run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gradgene.errors import OutputError
from gradgene.provenance import file_hash
from gradgene.store.shards import CONFIG_HASH

__all__ = ["PairScores", "read_pair_scores"]

COLUMNS = ["pair", "gene", "forward", "backward", "embedding", "presence"]
FIX = "run `gradgene attribute` again with attribution.save=pairs"


@dataclass(frozen=True)
class PairScores:
    """Scores of single pairs, on disk.

    Attributes
    ----------
    folder
        Where the shards are.
    config_hash
        Which configuration they are of.
    n_pairs
        Pairs of the plan.
    skipped
        Numbers of the pairs that have no scores.
    genes
        Names of all genes the model could score.
    shards
        Entries of the manifest.
    """

    folder: Path
    config_hash: str
    n_pairs: int
    skipped: tuple[int, ...]
    genes: tuple[str, ...]
    shards: tuple[dict[str, Any], ...]

    def frames(self) -> Iterator[pd.DataFrame]:
        """The shards one by one: `pair, gene, forward, backward, embedding, presence`.

        Every pair is in one of them; phenotype tokens have the gene `@category`.

        Raises
        ------
        OutputError
            For a shard whose content is not what was written.
        """
        for shard in self.shards:
            file = self.folder / shard["file"]
            if not file.is_file() or file_hash(file) != shard["sha256"]:
                raise OutputError("is not as it was written", where=str(file), fix=FIX)
            yield pd.read_parquet(file)[COLUMNS]


def read_pair_scores(folder: Path) -> PairScores:
    """Open `attributions/pairs/`; every shard is checked, none is read yet.

    Raises
    ------
    OutputError
        If there is no manifest (the run is not finished), a shard is missing, altered, of another
        configuration or in no manifest, or a pair is missing or in two shards.
    """
    file = folder / "manifest.json"
    if not file.is_file():
        raise OutputError(
            "there are no scores of single pairs, or the run is not finished",
            where=str(file),
            fix=FIX,
        )
    try:
        manifest = json.loads(file.read_text())
        scores = PairScores(
            folder=folder,
            config_hash=str(manifest["config_hash"]),
            n_pairs=int(manifest["n_pairs"]),
            skipped=tuple(map(int, manifest["skipped"])),
            genes=tuple(map(str, manifest["genes"])),
            shards=tuple(manifest["shards"]),
        )
        _check_files(scores)
        _check_pairs(scores)
    except (ValueError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise OutputError("is damaged", where=str(file), found=found, fix=FIX) from error
    return scores


def _check_files(scores: PairScores) -> None:
    """Every shard of the manifest is there and as large as it was, and no other."""
    named = {shard["file"] for shard in scores.shards}
    extra = sorted(f.name for f in scores.folder.glob("part-*.parquet") if f.name not in named)
    extra += sorted(f.name for f in scores.folder.glob("manifest-*.json"))
    if extra:
        raise OutputError(
            "holds files of another or an unfinished run",
            where=str(scores.folder),
            expected=f"the {len(named)} shards of its manifest",
            found=", ".join(extra[:3]),
            fix=FIX,
        )
    for shard in scores.shards:
        _check_shard(scores, shard)


def _check_shard(scores: PairScores, shard: dict[str, Any]) -> None:
    file = scores.folder / shard["file"]
    if not file.is_file():
        raise OutputError("a shard is missing", where=str(file), fix=FIX)
    try:
        schema, n_rows = pq.read_schema(file), pq.read_metadata(file).num_rows
    except (OSError, pa.ArrowException) as error:
        raise OutputError(
            "is no parquet file", where=str(file), found=type(error).__name__, fix=FIX
        ) from error
    if n_rows != shard["rows"]:
        raise OutputError(
            "a shard was altered",
            where=str(file),
            expected=f"{shard['rows']} rows",
            found=str(n_rows),
            fix=FIX,
        )
    config_hash = (schema.metadata or {}).get(CONFIG_HASH, b"none").decode()
    if config_hash != scores.config_hash:
        raise OutputError(
            "a shard is of another configuration",
            where=str(file),
            expected=scores.config_hash,
            found=config_hash,
            fix=FIX,
        )


def _check_pairs(scores: PairScores) -> None:
    """Every pair of the plan is skipped or in one shard."""
    there = Counter(int(pair) for shard in scores.shards for pair in shard["pairs"])
    there.update(scores.skipped)
    twice = [pair for pair, n in there.items() if n > 1]
    missing = [pair for pair in range(scores.n_pairs) if pair not in there]
    foreign = [pair for pair in there if not 0 <= pair < scores.n_pairs]
    for pairs, what in (
        (twice, "pairs are there twice"),
        (missing, "pairs are missing"),
        (foreign, "pairs are not of the plan"),
    ):
        if pairs:
            raise OutputError(
                f"{len(pairs)} {what}",
                where=str(scores.folder),
                expected=f"each of {scores.n_pairs} once",
                found=f"pair {min(pairs)}",
                fix=FIX,
            )
