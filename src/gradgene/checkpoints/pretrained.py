"""A checkpoint as the beginning of a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradgene.checkpoints.gene_list import read_gene_list
from gradgene.checkpoints.loaded import LoadedModel
from gradgene.checkpoints.loading import load_checkpoint, weights_file
from gradgene.errors import CheckpointError
from gradgene.models import PhenotypeGeneTransformer
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

        Raises
        ------
        CheckpointError
            If the vocabulary is not the checkpoint's own.
        """
        loaded = self.load().spelled_as(vocabulary.categories)
        if loaded.vocabulary != vocabulary:
            raise CheckpointError(
                "a pretrained model reads the vocabulary it was trained with and no other",
                where="model.path",
                fix="tokenise the cells with the checkpoint's own tokenizer",
            )
        return loaded.model

    def _require(self) -> None:
        if not Path(self.path).expanduser().exists():
            raise CheckpointError(f"no such checkpoint: {self.path}", where="model.path")
