"""Pure-torch models over token batches."""

from gradgene.models.attention import AttentionCore, MultiHeadAttention
from gradgene.models.block import Block
from gradgene.models.growing import grown
from gradgene.models.heads import TiedProjector, UnitNorm
from gradgene.models.transformer import ModelOutput, PhenotypeGeneTransformer

__all__ = [
    "AttentionCore",
    "Block",
    "ModelOutput",
    "MultiHeadAttention",
    "PhenotypeGeneTransformer",
    "TiedProjector",
    "UnitNorm",
    "grown",
]
