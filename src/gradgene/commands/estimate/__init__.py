"""What the stages of a run would take, in time and memory, measured on a little of their work."""

from __future__ import annotations

__all__: list[str] = []
