"""A checkpoint as the beginning of a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradgene.checkpoints.gene_list import read_gene_list
from gradgene.checkpoints.loaded import LoadedModel
from gradgene.checkpoints.loading import load_checkpoint, weights_file
from gradgene.errors import CheckpointError, TokenError
from gradgene.models import PhenotypeGeneTransformer, grown
from gradgene.tokens import Vocabulary

__all__ = ["PretrainedModel"]


@dataclass(frozen=True)
class PretrainedModel:
    """Begin with the weights and the vocabulary of a checkpoint instead of random weights.

    Parameters
    ----------
    path, kind
        As in `load_checkpoint`: a run (of `gradgene pretrain`, `train` or `study`), an `hf/` folder
        or a published checkpoint.
    genes
        A file with the names of its genes, as in `CheckpointSource`.
    checkpoint_activations, compile
        Switches of the training, as in `PhenotypeGeneTransformer`.
    """

    path: str
    kind: str = "auto"
    genes: str | None = None
    checkpoint_activations: bool = False
    compile: bool = False

    def file(self) -> Path:
        """The file with its weights, for noticing another one; raises as `load`."""
        self._require()
        return weights_file(self.path, self.kind)

    def load(self) -> LoadedModel:
        """The checkpoint, ready to be trained further.

        Raises
        ------
        CheckpointError
            As `load_checkpoint`, or for an unfit gene list.
        """
        self._require()
        loaded = load_checkpoint(self.path, self.kind, read_gene_list(self.genes, "model.genes"))
        loaded.model.checkpoint_activations = self.checkpoint_activations
        loaded.model.compiled = self.compile
        return loaded

    def __call__(self, vocabulary: Vocabulary) -> PhenotypeGeneTransformer:
        """Its model, as the other leaves of `model` make one for a vocabulary.

        Labels that the checkpoint does not know begin as `models.grown` says.

        Raises
        ------
        CheckpointError
            If the vocabulary is not the checkpoint's own with at most further labels.
        """
        loaded = self.load().spelled_as(vocabulary.categories)
        try:
            return grown(loaded.model, vocabulary)
        except TokenError as error:
            raise CheckpointError(
                "a pretrained model reads the vocabulary it was trained with, or a larger one",
                where="model.path",
                found=str(error),
                fix="tokenise the cells with the checkpoint's own tokenizer",
            ) from error

    def _require(self) -> None:
        if not Path(self.path).expanduser().exists():
            raise CheckpointError(f"no such checkpoint: {self.path}", where="model.path")
