"""Checkpoint files in, a model with its tokenizer out."""

from gradgene.checkpoints.card import ModelFacts
from gradgene.checkpoints.folder import save_folder
from gradgene.checkpoints.loaded import LoadedModel, LoadReport
from gradgene.checkpoints.loading import CheckpointSource, load_checkpoint, weights_file
from gradgene.checkpoints.pretrained import PretrainedModel

__all__ = [
    "CheckpointSource",
    "LoadReport",
    "LoadedModel",
    "ModelFacts",
    "PretrainedModel",
    "load_checkpoint",
    "save_folder",
    "weights_file",
]
