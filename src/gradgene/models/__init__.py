"""Pure-torch models over token batches."""

from gradgene.models.attention import AttentionCore, MultiHeadAttention
from gradgene.models.transformer import ModelOutput, PhenotypeGeneTransformer

__all__ = ["AttentionCore", "ModelOutput", "MultiHeadAttention", "PhenotypeGeneTransformer"]
