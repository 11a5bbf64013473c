"""The configuration: where its files are, and whether what Hydra composed of them can be built.

Nothing here knows of a command; `groups` is read by `--help` and loads neither torch nor Hydra.
"""

from __future__ import annotations

__all__: list[str] = []
