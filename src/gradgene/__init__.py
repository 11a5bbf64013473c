"""Which genes made a single-cell foundation model say "diseased"?"""

__version__ = "0.1.0"
