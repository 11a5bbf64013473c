"""`gradgene data`: a data set looked at, checked against a study, or fetched."""

from __future__ import annotations

__all__: list[str] = []
