"""Cells in, integer tokens out: vocabulary, tokenizer, batches and masking."""

from gradgene.tokens.batch import TokenBatch, mask_category
from gradgene.tokens.batching import length_batches, padded
from gradgene.tokens.bins import Binning, Bins
from gradgene.tokens.layout import CLS, EOS, MASK, PAD, Layout, TokenIds
from gradgene.tokens.masking import MaskedTokens
from gradgene.tokens.tokenizer import Tokenizer
from gradgene.tokens.truncation import TruncationReport
from gradgene.tokens.vocabulary import Vocabulary

__all__ = [
    "CLS",
    "EOS",
    "MASK",
    "PAD",
    "Binning",
    "Bins",
    "Layout",
    "MaskedTokens",
    "TokenBatch",
    "TokenIds",
    "Tokenizer",
    "TruncationReport",
    "Vocabulary",
    "length_batches",
    "mask_category",
    "padded",
]
