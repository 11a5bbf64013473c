"""Is it right? Quality of the model, completeness of the scores, recovery of known genes."""

from gradgene.evaluation.completeness import completeness_summary
from gradgene.evaluation.quality import prediction_quality
from gradgene.evaluation.recovery import KnownGenes, recovered

__all__ = ["KnownGenes", "completeness_summary", "prediction_quality", "recovered"]
