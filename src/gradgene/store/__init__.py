"""Results to disk, atomically."""

from gradgene.store.attribution_state import AttributionState, read_state, write_state
from gradgene.store.attribution_store import AttributionStore
from gradgene.store.cell_scores import CellScores
from gradgene.store.gene_weights import GeneWeights
from gradgene.store.hits import HitRules, HitTable
from gradgene.store.pair_scores import PairScores, read_pair_scores
from gradgene.store.parts import PartFacts, StorePart
from gradgene.store.shards import PairShardWriter, merge_manifests
from gradgene.store.writing import (
    append_json_line,
    atomic_path,
    read_json_lines,
    require_writable,
    write_json,
    write_parquet,
)

__all__ = [
    "AttributionState",
    "AttributionStore",
    "CellScores",
    "GeneWeights",
    "HitRules",
    "HitTable",
    "PairScores",
    "PairShardWriter",
    "PartFacts",
    "StorePart",
    "append_json_line",
    "atomic_path",
    "merge_manifests",
    "read_json_lines",
    "read_pair_scores",
    "read_state",
    "require_writable",
    "write_json",
    "write_parquet",
    "write_state",
]
