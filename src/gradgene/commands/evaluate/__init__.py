"""`gradgene evaluate`: the scores of a finished run judged, one file a kind of evidence."""

from __future__ import annotations

__all__: list[str] = []
