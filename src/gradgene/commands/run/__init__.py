"""One run: its folder and its cache, its trackers, its memory and the processes that share it."""

from __future__ import annotations

__all__: list[str] = []
