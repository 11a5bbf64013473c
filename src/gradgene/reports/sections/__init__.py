"""The tables of the report, each made from a run's files or None where there is nothing to show.

One file a subject: what was read and paired, the model, its genes, its methods, the pruning, and
what is needed to make the run again.
"""

from gradgene.reports.sections.data import (
    cost_table,
    data_facts,
    data_table,
    skipped_table,
    strata_table,
)
from gradgene.reports.sections.genes import (
    GeneRows,
    flag_table,
    flagged_table,
    gene_table,
    label_table,
    unflagged_table,
)
from gradgene.reports.sections.methods import (
    compared_table,
    effect_table,
    enrichment_table,
    ledger_table,
    recovery_table,
    zero_table,
)
from gradgene.reports.sections.model import confusion_table, donor_table, quality_table
from gradgene.reports.sections.pruning import area_table, pruning_tables
from gradgene.reports.sections.remake import (
    command,
    config_text,
    other_metrics,
    provenance_facts,
    stage_table,
)
from gradgene.reports.sections.tables import Table

__all__ = [
    "GeneRows",
    "Table",
    "area_table",
    "command",
    "compared_table",
    "config_text",
    "confusion_table",
    "cost_table",
    "data_facts",
    "data_table",
    "donor_table",
    "effect_table",
    "enrichment_table",
    "flag_table",
    "flagged_table",
    "gene_table",
    "label_table",
    "ledger_table",
    "other_metrics",
    "provenance_facts",
    "pruning_tables",
    "quality_table",
    "recovery_table",
    "skipped_table",
    "stage_table",
    "strata_table",
    "unflagged_table",
    "zero_table",
]
