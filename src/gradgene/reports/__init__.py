"""Figures and the report of a finished run, and the page of several.

Weights & Biases is behind its own door, `gradgene.reports.wandb`, so that drawing needs no W&B.
"""

from gradgene.reports.figures import write_figures, write_picture, write_pictures
from gradgene.reports.html import write_report
from gradgene.reports.joined import JoinedRuns, run_table, write_joined
from gradgene.reports.measures import Measure, run_measures
from gradgene.reports.run_files import RunFiles
from gradgene.reports.verdict import leaks

__all__ = [
    "JoinedRuns",
    "Measure",
    "RunFiles",
    "leaks",
    "run_measures",
    "run_table",
    "write_figures",
    "write_joined",
    "write_picture",
    "write_pictures",
    "write_report",
]
