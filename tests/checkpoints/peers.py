"""Pickles as the published code writes them, of stand-in classes under its names."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

__all__ = ["pickled_tokenizer", "write_run"]

SPECIAL = ["[cls]", "[eos]", "[mask]", "[pad]"]


def stand_in(module: str, name: str) -> tuple[ModuleType, type]:
    """A module that holds one empty class."""
    made = ModuleType(module)
    cls = type(name, (), {"__module__": module})
    setattr(made, name, cls)
    return made, cls


def pickled_tokenizer(
    root: str,
    state: dict[str, Any],
    settings: dict[str, Any] | None = None,
    protocol: int = 4,
) -> bytes:
    """A GeneTokenizer of the package `root` with the attributes `state`.

    `settings`, if given, are the attributes of its `config`.
    """
    tokenization, tokenizer_class = stand_in(f"{root}.data_utils.tokenization", "GeneTokenizer")
    configs, config_class = stand_in(f"{root}.configs", "TrainMLMConfig")
    tokenizer = tokenizer_class()
    tokenizer.__dict__.update(state)
    if settings is not None:
        config = config_class()
        config.__dict__.update(settings)
        tokenizer.__dict__["config"] = config
    modules = {tokenization.__name__: tokenization, configs.__name__: configs}
    modules |= {name: ModuleType(name) for name in (root, f"{root}.data_utils")}
    with patch.dict(sys.modules, modules):
        return pickle.dumps(tokenizer, protocol=protocol)


def write_run(
    folder: Path, root: str, labels: dict[str, list[str]], **changes: Any
) -> dict[str, Any]:
    """`tokenizer.pkl` in `folder` and the config.json that belongs to it, which comes back.

    Parameters
    ----------
    folder
        Of the run.
    root
        "perturbgene", "cellular_aging_map" or "polygene".
    labels
        Category -> texts of its tokens, all of them in the sequence.
    changes
        Attributes of the tokenizer or of its configuration, and keys of config.json, that differ.
    """
    special = [s.upper() for s in SPECIAL] if root == "perturbgene" else SPECIAL
    flat = [*special, *(token for c in sorted(labels) for token in labels[c])]
    flat += [f"bin_{i}" for i in range(3)]
    ranks = {f"ENSG{i:011d}": i for i in range(6)}
    state: dict[str, Any] = {
        "phenotypic_tokens_map": labels,
        "phenotypic_types": sorted(labels),
        "flattened_tokens": flat,
        "token_to_id_map": {token: i for i, token in enumerate(flat)},
        **({} if root == "perturbgene" else {"gene_type_id_map": ranks, "inference": False}),
    }
    settings = {"bin_edges": [0.5, 1], "max_length": 100, "included_phenotypes": sorted(labels)}
    config = {"vocab_size": len(flat), "type_vocab_size": 1 + len(labels) + 6}
    for key, value in changes.items():
        of_state = key in state or key == "bypass_inference"
        (state if of_state else config if key in (*config, "updates_memory") else settings)[key] = (
            value
        )
    (folder / "tokenizer.pkl").write_bytes(pickled_tokenizer(root, state, settings))
    return config
