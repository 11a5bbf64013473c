"""What is typed and what is said: words, flags, help, the console and how a command ends.

Nothing here imports torch, Hydra or Lightning.
"""

from __future__ import annotations

__all__: list[str] = []
