"""Results to disk, atomically."""

from gradgene.store.shards import PairShardWriter
from gradgene.store.writing import (
    append_json_line,
    atomic_path,
    read_json_lines,
    require_writable,
    write_json,
    write_parquet,
)

__all__ = [
    "PairShardWriter",
    "append_json_line",
    "atomic_path",
    "read_json_lines",
    "require_writable",
    "write_json",
    "write_parquet",
]
