"""Many runs from one line: what its jobs are going to do, and what became of them."""

from __future__ import annotations

__all__: list[str] = []
