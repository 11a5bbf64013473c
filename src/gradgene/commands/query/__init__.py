"""`gradgene query`: genes and cells looked up in stored attributions."""

from __future__ import annotations

__all__: list[str] = []
