"""`gradgene report`: the page of one run, or several side by side."""

from __future__ import annotations

__all__: list[str] = []
