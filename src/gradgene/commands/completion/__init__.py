"""`gradgene completion`: the scripts by which a shell completes command lines."""

from __future__ import annotations

__all__: list[str] = []
