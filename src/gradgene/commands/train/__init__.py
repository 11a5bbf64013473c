"""`gradgene train` and `gradgene pretrain`: models from cells."""

from __future__ import annotations

__all__: list[str] = []
