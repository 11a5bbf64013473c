"""Figures and the report of a finished run.

Weights & Biases is behind its own door, `gradgene.reports.wandb`, so that drawing needs no W&B.
"""

from gradgene.reports.figures import write_figures, write_picture
from gradgene.reports.html import write_report
from gradgene.reports.run_files import RunFiles
from gradgene.reports.verdict import leaks

__all__ = ["RunFiles", "leaks", "write_figures", "write_picture", "write_report"]
