"""The tables of the report, each made from a run's files or None where there is nothing to show.

One file a subject: what was read and paired, the model, its genes, its methods, the pruning, and
what is needed to make the run again.
"""

from gradgene.reports.sections.controls import control_ranking_table
from gradgene.reports.sections.data import (
    cost_table,
    data_facts,
    data_table,
    skipped_table,
    strata_table,
)
from gradgene.reports.sections.faithfulness import (
    faithfulness_note,
    faithfulness_table,
)
from gradgene.reports.sections.genes import (
    GeneRows,
    flag_table,
    flagged_table,
    gene_table,
    gene_url,
    label_table,
    unflagged_table,
)
from gradgene.reports.sections.interactions import interaction_rows
from gradgene.reports.sections.methods import (
    compared_table,
    effect_table,
    enrichment_table,
    ledger_table,
    recovery_table,
    zero_table,
)
from gradgene.reports.sections.methods_text import MethodsText, methods_text
from gradgene.reports.sections.model import confusion_table, donor_table, quality_table
from gradgene.reports.sections.pairs import PairStep, PairView, pair_views, worst_pairs_table
from gradgene.reports.sections.pruning import (
    area_table,
    arm_tables,
    pruning_tables,
    retrained_table,
)
from gradgene.reports.sections.remake import (
    command,
    config_text,
    given,
    other_metrics,
    provenance_facts,
    stage_table,
)
from gradgene.reports.sections.sanity import sanity_sentence, sanity_table
from gradgene.reports.sections.stability import (
    agreement_table,
    consensus_table,
    disputed_table,
    donor_stability_table,
    stability_sentence,
    stability_table,
)
from gradgene.reports.sections.tables import Table

__all__ = [
    "GeneRows",
    "MethodsText",
    "PairStep",
    "PairView",
    "Table",
    "agreement_table",
    "area_table",
    "arm_tables",
    "command",
    "compared_table",
    "config_text",
    "confusion_table",
    "consensus_table",
    "control_ranking_table",
    "cost_table",
    "data_facts",
    "data_table",
    "disputed_table",
    "donor_stability_table",
    "donor_table",
    "effect_table",
    "enrichment_table",
    "faithfulness_note",
    "faithfulness_table",
    "flag_table",
    "flagged_table",
    "gene_table",
    "gene_url",
    "given",
    "interaction_rows",
    "label_table",
    "ledger_table",
    "methods_text",
    "other_metrics",
    "pair_views",
    "provenance_facts",
    "pruning_tables",
    "quality_table",
    "recovery_table",
    "retrained_table",
    "sanity_sentence",
    "sanity_table",
    "skipped_table",
    "stability_sentence",
    "stability_table",
    "stage_table",
    "strata_table",
    "unflagged_table",
    "worst_pairs_table",
    "zero_table",
]
