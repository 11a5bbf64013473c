"""The console that commands say things on; it starts without Lightning."""

from __future__ import annotations

from typing import Any

import rich.console
from rich.console import RenderableType
from rich.status import Status

__all__ = ["Console"]


class Console(rich.console.Console):
    """Rich's, without spinners in notebooks, where they want a package that nothing else needs."""

    def status(self, status: RenderableType, **more: Any) -> Status:
        """What is being done, shown meanwhile where it can be wiped away again."""
        if not self.is_jupyter:
            return super().status(status, **more)
        silent = Console(quiet=True, force_jupyter=False, force_terminal=False)
        return Status(status, console=silent)
