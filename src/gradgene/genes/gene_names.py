"""What the name of a gene says about it: organelle, ribosome, blood, ambient RNA.

Names are compared as human symbols (RPL3) and as mouse ones (Rpl3, mt-Co1); another spelling
(rpl3, MT_CO1) says nothing. Names of pseudogenes (RPL3P4, HBBP1, Rpl10-ps3) do not count.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gradgene.genes.cell_cycle import CELL_CYCLE

__all__ = ["BY_NAME", "human_spelling", "is_symbol", "without_version"]

# Genes of the mitochondrion's own genome: MT-CO1 in man, mt-Co1 in mouse, Mt-co1 in rat. R turns
# the hyphen into a dot. MTRNR2L8, a nuclear copy, has none.
_MITOCHONDRIAL = re.compile(r"(MT|mt|Mt)[-.]\w.*")
# Proteins of the cytosolic ribosome by their traditional names. Kinases of ribosomal proteins
# (RPS6KA1), mitochondrial ribosomes (MRPL3), read-through genes and pseudogenes are no match.
_RIBOSOMAL = re.compile(r"RPL(\d+(A|L|AL|L1)?|P[012])|RPS(\d+([ALX]|Y\d)?|A)")
_HAEMOGLOBIN = frozenset("HBA1 HBA2 HBB HBD HBE1 HBG1 HBG2 HBM HBQ1 HBZ".split())
_MOUSE_HAEMOGLOBIN = re.compile(r"Hba-(a[12]|x)|Hbb-(b[12st]|bh[0-3]|y)|Hbq1[ab]")
# Ids of Ensembl, with or without a version, and of Entrez.
_ID = re.compile(r"ENS[A-Z]*G\d{11}(\.\d+)?|\d+")

#: Flag word -> whether a name earns it.
BY_NAME: dict[str, Callable[[str], bool]] = {
    "mitochondrial": lambda name: bool(_MITOCHONDRIAL.fullmatch(name)),
    "ribosomal": lambda name: bool(_RIBOSOMAL.fullmatch(human_spelling(name))),
    "haemoglobin": lambda name: (
        human_spelling(name) in _HAEMOGLOBIN or bool(_MOUSE_HAEMOGLOBIN.fullmatch(name))
    ),
    "cell_cycle": lambda name: human_spelling(name) in CELL_CYCLE,
}


def human_spelling(name: str) -> str:
    """A mouse symbol (Actb) in capitals, as most human orthologues are called; others as is."""
    return name.upper() if name == name.capitalize() else name


def is_symbol(name: str) -> bool:
    """Whether `name` is a gene symbol rather than an id of Ensembl or Entrez."""
    return not _ID.fullmatch(name)


def without_version(gene_id: str) -> str:
    """An Ensembl id without its version: ENSG00000187608.10 is ENSG00000187608."""
    return gene_id.partition(".")[0] if gene_id.startswith("ENS") else gene_id
