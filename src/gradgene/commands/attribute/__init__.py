"""`gradgene attribute`: the pairs of a trained model explained, and its genes ranked."""

from __future__ import annotations

__all__: list[str] = []
