"""`gradgene prune`: rankings of genes tested by removing them."""

from __future__ import annotations

__all__: list[str] = []
