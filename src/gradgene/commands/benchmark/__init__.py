"""`gradgene benchmark`: speed, memory and planted truth, one file a benchmark and its parts."""

from __future__ import annotations

__all__: list[str] = []
