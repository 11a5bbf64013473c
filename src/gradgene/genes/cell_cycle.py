"""The genes of the S and G2/M phases after which cells are commonly scored for the cell cycle.

The 97 genes of Tirosh et al., "Dissecting the multicellular ecosystem of metastatic melanoma by
single-cell RNA-seq", Science 352 (2016), 189-196, under the names used there. `RENAMED` adds the
present symbols of those that have been renamed since.
"""

from __future__ import annotations

__all__ = ["CELL_CYCLE", "G2M_PHASE", "RENAMED", "S_PHASE"]

#: Genes of DNA synthesis.
S_PHASE = frozenset(
    "ATAD2 BLM BRIP1 CASP8AP2 CCNE2 CDC45 CDC6 CDCA7 CHAF1B CLSPN DSCC1 DTL E2F8 EXO1 FEN1 GINS2 "
    "GMNN HELLS MCM2 MCM4 MCM5 MCM6 MLF1IP MSH2 NASP PCNA POLA1 POLD3 PRIM1 RAD51 RAD51AP1 RFC2 "
    "RPA2 RRM1 RRM2 SLBP TIPIN TYMS UBR7 UHRF1 UNG USP1 WDR76".split()
)
#: Genes of the second gap and of mitosis.
G2M_PHASE = frozenset(
    "ANLN ANP32E AURKA AURKB BIRC5 BUB1 CBX5 CCNB2 CDC20 CDC25C CDCA2 CDCA3 CDCA8 CDK1 CENPA "
    "CENPE CENPF CKAP2 CKAP2L CKAP5 CKS1B CKS2 CTCF DLGAP5 ECT2 FAM64A G2E3 GAS2L3 GTSE1 HJURP "
    "HMGB2 HMMR HN1 KIF11 KIF20B KIF23 KIF2C LBR MKI67 NCAPD2 NDC80 NEK2 NUF2 NUSAP1 PSRC1 "
    "RANGAP1 SMC4 TACC3 TMPO TOP2A TPX2 TTK TUBB4B UBE2C".split()
)
#: Symbol of 2016 -> present symbol.
RENAMED = {"MLF1IP": "CENPU", "FAM64A": "PIMREG", "HN1": "JPT1"}
#: All of them, under old and present symbols.
CELL_CYCLE = S_PHASE | G2M_PHASE | frozenset(RENAMED.values())
