"""How far one process has come with an attribution, in one file that is replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from gradgene.store.writing import atomic_path

__all__ = ["AttributionState", "read_state", "write_state"]

_STATE, _LEDGER, _ABOUT = "state/", "ledger/", "about"


@dataclass(frozen=True)
class AttributionState:
    """Everything that the batches done so far have left.

    Attributes
    ----------
    n_batches
        Batches done, counted in the order they are served in.
    sums
        States of the accumulator of gene scores.
    ledger
        One row a pair done, of numbers only.
    failed
        One entry a pair that was left out: `pair` and `reason`.
    shards
        Entries of the shards written, as they will be in the manifest.
    """

    n_batches: int
    sums: dict[str, Tensor]
    ledger: pd.DataFrame
    failed: list[dict[str, Any]] = field(default_factory=list)
    shards: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Header:
    of: dict[str, str]
    n_batches: int
    columns: list[str]
    failed: list[dict[str, Any]]
    shards: list[dict[str, Any]]


def write_state(state: AttributionState, of: Mapping[str, str], file: Path) -> None:
    """Write a state and what it is `of`; a kill leaves the file before or this one, whole.

    Sums, ledger and number of batches are in the same file, so that they never disagree.
    """
    tensors = {f"{_STATE}{name}": value.contiguous().cpu() for name, value in state.sums.items()}
    for name in state.ledger:
        tensors[f"{_LEDGER}{name}"] = torch.from_numpy(state.ledger[name].to_numpy(copy=True))
    header = _Header(
        dict(of), state.n_batches, [*map(str, state.ledger)], state.failed, state.shards
    )
    with atomic_path(file) as temporary:
        save_file(tensors, temporary, {_ABOUT: json.dumps(asdict(header))})


def read_state(of: Mapping[str, str], file: Path) -> tuple[AttributionState | None, str]:
    """The state in `file` if it is `of` what is asked for, and else None and why not.

    A file that is missing, damaged or of other settings is no error: the work starts anew.
    """
    if not file.is_file():
        return None, ""
    try:
        # Read at once: another process may be replacing the file.
        content = file.read_bytes()
        start = content[8 : 8 + int.from_bytes(content[:8], "little")]
        header = _Header(**json.loads(json.loads(start)["__metadata__"][_ABOUT]))
        if header.of != dict(of):
            different = [k for k in of if header.of.get(k) != of[k]]
            return None, f"what was done before has another {', '.join(different)}"
        tensors = load(content)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        return None, f"what was done before cannot be read ({type(error).__name__})"
    state = AttributionState(
        n_batches=header.n_batches,
        sums={
            name.removeprefix(_STATE): value
            for name, value in tensors.items()
            if name.startswith(_STATE)
        },
        ledger=pd.DataFrame({c: tensors[f"{_LEDGER}{c}"].numpy() for c in header.columns}),
        failed=header.failed,
        shards=header.shards,
    )
    return state, ""
