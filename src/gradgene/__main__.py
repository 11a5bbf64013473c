"""`python -m gradgene` does what the `gradgene` command does."""

from __future__ import annotations

import sys

from gradgene.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
