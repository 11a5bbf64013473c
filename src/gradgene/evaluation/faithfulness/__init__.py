"""Does the model follow the genes that the scores name? One measure a file."""

from gradgene.evaluation.faithfulness.attainable import (
    AopcLimits,
    normalised_aopc,
    read_attainable_aopc,
)
from gradgene.evaluation.faithfulness.infidelity import (
    Infidelity,
    Swaps,
    infidelity,
    read_random_swaps,
)
from gradgene.evaluation.faithfulness.measures import (
    MEASURES,
    FaithfulnessMeasure,
    Units,
    measured,
)
from gradgene.evaluation.faithfulness.reading import PairReader, reading
from gradgene.evaluation.faithfulness.removal import Removal, read_removal
from gradgene.evaluation.faithfulness.sensitivity import max_sensitivity
from gradgene.evaluation.faithfulness.settings import Faithfulness
from gradgene.evaluation.faithfulness.swap_gap import SwapGap, read_swap_gap

__all__ = [
    "MEASURES",
    "AopcLimits",
    "Faithfulness",
    "FaithfulnessMeasure",
    "Infidelity",
    "PairReader",
    "Removal",
    "SwapGap",
    "Swaps",
    "Units",
    "infidelity",
    "max_sensitivity",
    "measured",
    "normalised_aopc",
    "read_attainable_aopc",
    "read_random_swaps",
    "read_removal",
    "read_swap_gap",
    "reading",
]
