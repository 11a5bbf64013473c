"""`gradgene` of which one process fails when it has done its share of a pruning.

`FAILS=<rank> WITH=<user|bug> python failing.py prune …`; Lightning gives the line again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from gradgene.commands.main import program
from gradgene.commands.prune import progress as prune_progress
from gradgene.errors import RankingError

#: What a user did wrong, or a fault of our own.
ERRORS = {"user": RankingError("no such thing", where="here"), "bug": ZeroDivisionError("a bug")}

if __name__ == "__main__":
    if os.environ.get("LOCAL_RANK", "0") == os.environ["FAILS"]:
        share = prune_progress.Share.__call__

        def fail(self: prune_progress.Share, pieces: Any) -> Iterator[Any]:
            """Stop instead of waiting for the others."""
            self.work.company.wait = lambda: (_ for _ in ()).throw(ERRORS[os.environ["WITH"]])  # type: ignore[method-assign]
            yield from share(self, pieces)

        prune_progress.Share.__call__ = fail  # type: ignore[method-assign]
    program()
