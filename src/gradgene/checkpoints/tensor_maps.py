"""Which tensor of a published checkpoint is which tensor of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradgene.errors import CheckpointError

__all__ = ["CAM", "DV", "PERTURBGENE", "PERTURBGENE_CLASSIFIER", "POLYGENE_BERT", "TensorMap"]

#: How many names an error lists.
LISTED = 12


@dataclass(frozen=True)
class TensorMap:
    """Their names for our tensors.

    Parameters
    ----------
    modules
        Our module -> theirs, for each module with a weight and a bias; `{i}` is a layer.
    tensors
        Our tensor -> theirs, where the names do not follow from modules.
    copies
        Tensors that a file may hold once more under another name: that name -> ours of theirs.
    ignored
        Tensors that carry nothing, should a file hold them.
    """

    modules: Mapping[str, str]
    tensors: Mapping[str, str]
    copies: Mapping[str, str] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()

    def names(self, n_layers: int) -> dict[str, str]:
        """Our tensor -> theirs, for a model of so many layers."""
        named = dict(self.tensors)
        for ours, theirs in self.modules.items():
            for i in range(n_layers) if "{i}" in ours else (0,):
                for part in ("weight", "bias"):
                    named[f"{ours}.{part}".format(i=i)] = f"{theirs}.{part}".format(i=i)
        return named

    def ours(self, theirs: Mapping[str, Tensor], n_layers: int, where: str) -> dict[str, Tensor]:
        """The tensors under our names.

        Raises
        ------
        CheckpointError
            Listing tensors that are missing or have no counterpart; or for a second copy that
            says something else.
        """
        names = self.names(n_layers)
        known = {*names.values(), *self.copies, *self.ignored}
        _refuse("are missing", sorted(set(names.values()) - theirs.keys()), where)
        _refuse("have no place in the model", sorted(theirs.keys() - known), where)
        for copy, of in self.copies.items():
            if copy in theirs and not torch.equal(theirs[copy], theirs[of]):
                raise CheckpointError(
                    f"{copy} and {of} should be one tensor and differ", where=where
                )
        return {name: theirs[their] for name, their in names.items()}


def _refuse(what: str, names: list[str], where: str) -> None:
    if names:
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        raise CheckpointError(
            f"{len(names)} tensors {what}: {', '.join(names[:LISTED])}{more}", where=where
        )


def _distilbert(prefix: str) -> dict[str, str]:
    layer = f"{prefix}transformer.layer.{{i}}"
    return {
        "embedding_norm": f"{prefix}embeddings.LayerNorm",
        "blocks.{i}.attention.q_lin": f"{layer}.attention.q_lin",
        "blocks.{i}.attention.k_lin": f"{layer}.attention.k_lin",
        "blocks.{i}.attention.v_lin": f"{layer}.attention.v_lin",
        "blocks.{i}.attention.out_lin": f"{layer}.attention.out_lin",
        "blocks.{i}.sa_layer_norm": f"{layer}.sa_layer_norm",
        "blocks.{i}.lin1": f"{layer}.ffn.lin1",
        "blocks.{i}.lin2": f"{layer}.ffn.lin2",
        "blocks.{i}.output_layer_norm": f"{layer}.output_layer_norm",
    }


def _embeddings(prefix: str, value: str) -> dict[str, str]:
    return {
        "value_embedding.weight": f"{prefix}embeddings.{value}.weight",
        "identity_embedding.weight": f"{prefix}embeddings.token_type_embeddings.weight",
    }


PERTURBGENE = TensorMap(
    modules={
        **_distilbert("distilbert."),
        "head_transform": "vocab_transform",
        "head_norm": "vocab_layer_norm",
        "head_projector": "vocab_projector",
    },
    tensors=_embeddings("distilbert.", "word_embeddings"),
)
PERTURBGENE_CLASSIFIER = TensorMap(
    modules={
        **_distilbert("distilbert."),
        "classifier.transform": "pre_classifier",
        "classifier.projector": "classifier",
    },
    tensors=_embeddings("distilbert.", "word_embeddings"),
)
CAM = TensorMap(
    modules={
        **_distilbert(""),
        "head_transform": "prediction_head.0",
        "head_norm": "prediction_head.2",
        "head_projector": "prediction_head.3",
    },
    tensors=_embeddings("", "token_value_embeddings"),
)
DV = TensorMap(
    modules=_distilbert(""),
    tensors={**_embeddings("", "token_value_embeddings"), "temperature": "temperature"},
    copies={"prediction_head.1.weight": "embeddings.token_value_embeddings.weight"},
)
_LAYER = "bert.encoder.layer.{i}"
POLYGENE_BERT = TensorMap(
    modules={
        "embedding_norm": "bert.embeddings.LayerNorm",
        "blocks.{i}.attention.q_lin": f"{_LAYER}.attention.self.query",
        "blocks.{i}.attention.k_lin": f"{_LAYER}.attention.self.key",
        "blocks.{i}.attention.v_lin": f"{_LAYER}.attention.self.value",
        "blocks.{i}.attention.out_lin": f"{_LAYER}.attention.output.dense",
        "blocks.{i}.sa_layer_norm": f"{_LAYER}.attention.output.LayerNorm",
        "blocks.{i}.lin1": f"{_LAYER}.intermediate.dense",
        "blocks.{i}.lin2": f"{_LAYER}.output.dense",
        "blocks.{i}.output_layer_norm": f"{_LAYER}.output.LayerNorm",
        "head_transform": "cls.predictions.transform.dense",
        "head_norm": "cls.predictions.transform.LayerNorm",
    },
    tensors={
        "value_embedding.weight": "bert.embeddings.word_embeddings.weight",
        "identity_embedding.weight": "bert.embeddings.position_embeddings.weight",
        "head_projector.bias": "cls.predictions.bias",
    },
    copies={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    # Numbers 0, 1, 2 … that older versions saved.
    ignored=frozenset({"bert.embeddings.position_ids"}),
)
