"""Checkpoint files in, a model with its tokenizer out."""

from gradgene.checkpoints.folder import save_folder
from gradgene.checkpoints.loaded import LoadedModel, LoadReport
from gradgene.checkpoints.loading import CheckpointSource, load_checkpoint, weights_file

__all__ = [
    "CheckpointSource",
    "LoadReport",
    "LoadedModel",
    "load_checkpoint",
    "save_folder",
    "weights_file",
]
