"""The command line that makes a run again, alone: out of a sweep's line or a single stage's."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

__all__ = ["commands"]

#: Commands that need what others have left in the folder, and the one that does all of it.
PARTS, WHOLE = ("attribute", "prune", "evaluate"), "study"
#: What Hydra reads as text without quotes.
_PLAIN = re.compile(r"[\w./@%+-]+", re.ASCII)


def commands(folder: Path) -> dict[str, list[str]]:
    """The line that makes the run in `folder` again, and the line that was given where it differs.

    A job of a sweep is a line of its own: its overrides, what the sweep's leaf says besides, and
    its folder. A stage that stands on others becomes the whole study, with the same settings.

    Returns
    -------
    dict
        `command`, and `given` if that was another one; words without quotes.
    """
    given = ["gradgene", *sys.argv[1:]]
    job = _job()
    again = given if job is None else _alone(given, folder, job)
    if again[1:2] and again[1] in PARTS:
        again = [again[0], WHOLE, *again[2:]]
    return {"command": again} if again == given else {"command": again, "given": given}


def _job() -> HydraConf | None:
    """Hydra's settings of the sweep's job that is running, if any is."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    return hydra if hydra is not None and hydra.mode == RunMode.MULTIRUN else None


def _alone(given: Sequence[str], folder: Path, hydra: HydraConf) -> list[str]:
    """The line of one job of a sweep, given that of the sweep."""
    words = {_key(word): word for word in hydra.overrides.task}
    for word in _of_leaf(hydra):
        words.setdefault(_key(word), word)
    place = folder.resolve()
    if place.is_relative_to(Path.cwd()):
        place = place.relative_to(Path.cwd())
    words["paths.output_dir"] = f"paths.output_dir={_value(str(place))}"
    flags = [word for word in given[2:] if word.startswith("--config")]
    return [*given[:2], *flags, *(w for key, w in words.items() if not key.startswith("sweep"))]


def _key(word: str) -> str:
    return word.lstrip("+").partition("=")[0]


def _of_leaf(hydra: HydraConf) -> Iterator[str]:
    """What the leaf of the sweep sets for its jobs, other than by varying it, as overrides."""
    chosen = hydra.runtime.choices.get("sweep")
    sources = [Path(s.path) for s in hydra.runtime.config_sources if s.schema == "file"]
    names = [chosen] if isinstance(chosen, str) else [*(chosen or ())]
    for name in names:  # grows by what a leaf is made of
        for file in (source / "sweep" / f"{name}.yaml" for source in sources):
            if not file.is_file():
                continue
            leaf = OmegaConf.to_container(OmegaConf.load(file))
            assert isinstance(leaf, dict)  # Hydra has composed it
            defaults = leaf.pop("defaults", ())
            names += [entry for entry in defaults if isinstance(entry, str) and entry != "_self_"]
            keys = [str(key) for entry in defaults if isinstance(entry, dict) for key in entry]
            groups = [key.removeprefix("override ").lstrip("/") for key in keys]
            yield from (f"{g}={hydra.runtime.choices[g]}" for g in groups if g[:6] != "hydra/")
            yield from _flat({key: v for key, v in leaf.items() if key != "hydra"})


def _flat(found: Mapping[Any, Any], before: str = "") -> Iterator[str]:
    for key, value in found.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}={_value(value)}"


def _value(value: Any) -> str:
    """As Hydra reads it; in double quotes, which a shell's single quotes leave alone."""
    plain = isinstance(value, str) and _PLAIN.fullmatch(value)
    return value if plain else json.dumps(value, ensure_ascii=False)
