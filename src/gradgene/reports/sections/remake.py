"""What is needed to make the run again, and what no other section shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf

from gradgene.reports.run_files import RunFiles
from gradgene.reports.sections.model import QUALITY
from gradgene.reports.sections.tables import Table, frame_table, joined, make_table, metric_value

__all__ = [
    "command",
    "config_text",
    "given",
    "other_metrics",
    "provenance_facts",
    "stage_table",
]

# What other tables of the report show, or its sentences say.
_SHOWN = re.compile(
    r"recovery/.*@.*|effects/.*|faithfulness/.*|pairs/n_(pairs|skipped)"
    r"|attribution/[^/]+/(complete|relative_delta_p.*|zero_(forward|backward|importance)"
    r"|n_donors_(input|baseline)|n_skipped_pairs)"
)


def other_metrics(run: RunFiles) -> Table | None:
    """Every metric that no other table of the report shows."""
    rows = [
        (key, metric_value(key, value))
        for key, value in sorted((run.metrics or {}).items())
        if key not in QUALITY and not _SHOWN.fullmatch(key)
    ]
    return make_table(["Metric", "Value"], rows)


def stage_table(run: RunFiles) -> Table | None:
    """Seconds and peak memory of each stage, in their order, and which another run had done."""
    if run.stages is None:
        return None
    names = {"stage": "Stage", "seconds": "Seconds", "peak_memory_mb": "Peak memory (MB)"}
    stages = run.stages
    if "from_cache" in stages:
        fetched = stages["from_cache"].eq(True)
        stages = stages.assign(note=fetched.map({True: "from the cache", False: "here"}))
    return frame_table(stages, {**names, "note": "Done"})


def provenance_facts(run: RunFiles) -> list[tuple[str, str]]:
    """Versions, hashes and devices as (dotted name, value)."""
    facts = list(_flat(run.provenance or {}))
    return [
        (name, joined(value) or "–") for name, value in facts if name not in ("command", "given")
    ]


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def command(run: RunFiles) -> str | None:
    """The command that makes the run again, as provenance recorded it (text or list of words)."""
    return _line(run, "command")


def given(run: RunFiles) -> str | None:
    """The command that made it where that is another one: of a sweep, or of its last stage."""
    return _line(run, "given")


def _line(run: RunFiles, name: str) -> str | None:
    found = (run.provenance or {}).get(name)
    return shlex.join(map(str, found)) if isinstance(found, list) else found


def config_text(run: RunFiles) -> str | None:
    """The resolved configuration as YAML, as the run wrote it."""
    return None if run.config is None else str(OmegaConf.to_yaml(OmegaConf.create(run.config)))
