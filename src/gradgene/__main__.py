"""`python -m gradgene` does what the `gradgene` command does."""

from __future__ import annotations

from gradgene.commands.main import program

if __name__ == "__main__":
    program()
