"""Cells in, integer tokens out: vocabulary, tokenizer, batches and masking."""

from gradgene.tokens.batch import TokenBatch, mask_category
from gradgene.tokens.tokenizer import Tokenizer
from gradgene.tokens.vocabulary import CLS, EOS, MASK, PAD, Vocabulary

__all__ = ["CLS", "EOS", "MASK", "PAD", "TokenBatch", "Tokenizer", "Vocabulary", "mask_category"]
