"""Which of a model's weights learn, and how fast: the arms of fine-tuning."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from torch import nn

from gradgene.errors import ConfigError, closest, require_extra
from gradgene.models import PhenotypeGeneTransformer

__all__ = ["FineTuning", "freeze", "prepare", "with_head"]

Arm = Literal["full", "linear_probe", "last_k", "lora"]
TargetHead = Literal["masked_slot", "cls"]
Schedule = Literal["constant", "warmup_cosine"]

#: How the names of a head's tensors begin.
HEADS: dict[str, tuple[str, ...]] = {
    "masked_slot": ("head_", "temperature"),
    "cls": ("classifier.",),
}


@dataclass(frozen=True)
class FineTuning:
    """AdamW on the weights that an arm trains.

    Parameters
    ----------
    learning_rate, weight_decay, max_epochs
        Of AdamW; the rate is the highest one of a schedule.
    arm
        "full": everything. "linear_probe": the head alone, on a fixed encoder. "last_k": the last
        `last_k` blocks and the head. "lora": low-rank updates of the blocks' `lora_modules`, and
        the head; needs the extra `gradgene[lora]`.
    last_k
        Number of blocks that "last_k" trains.
    lora_rank, lora_alpha, lora_dropout, lora_modules
        The update of a weight is alpha / rank times B A, with A and B of this rank, behind this
        dropout; the names of the linear layers that have one.
    head
        Where the label is read: "masked_slot", the masked token of the target (its head is the
        model's own: transform, norm and projection), or "cls", a classifier on the state of
        `[CLS]`, made anew unless the model has one for the target.
    schedule, warmup_share
        "constant", or "warmup_cosine": rising over this share of all steps, then falling along a
        cosine to 0.

    Raises
    ------
    ConfigError
        For an unknown choice or a number that makes no training.
    """

    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    max_epochs: int = 8
    arm: Arm = "full"
    last_k: int = 1
    lora_rank: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.0
    lora_modules: tuple[str, ...] = ("q_lin", "v_lin")
    head: TargetHead = "masked_slot"
    schedule: Schedule = "constant"
    warmup_share: float = 0.1

    def __post_init__(self) -> None:
        for name, known in (("arm", Arm), ("head", TargetHead), ("schedule", Schedule)):
            value = getattr(self, name)
            if value not in get_args(known):
                raise ConfigError(
                    f"unknown {name} {value!r}",
                    where=f"finetune.{name}",
                    expected=f"one of {closest(str(value), get_args(known))}",
                )
        if self.learning_rate <= 0 or self.max_epochs < 1 or self.weight_decay < 0:
            raise ConfigError(
                "cannot train so",
                where="finetune",
                expected="learning_rate > 0, max_epochs >= 1, weight_decay >= 0",
                found=str(asdict(self)),
            )
        if self.last_k < 1 or not 0 <= self.warmup_share <= 1:
            raise ConfigError(
                "cannot train so",
                where="finetune",
                expected="last_k >= 1, warmup_share in [0, 1]",
                found=f"last_k {self.last_k}, warmup_share {self.warmup_share}",
            )
        if self.lora_rank < 1 or self.lora_alpha <= 0 or not 0 <= self.lora_dropout < 1:
            raise ConfigError(
                "makes no low-rank update",
                where="finetune",
                expected="lora_rank >= 1, lora_alpha > 0, lora_dropout in [0, 1)",
                found=f"{self.lora_rank}, {self.lora_alpha}, {self.lora_dropout}",
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as checkpoints hold them."""
        return {**asdict(self), "lora_modules": list(self.lora_modules)}


def with_head(
    model: PhenotypeGeneTransformer, head: TargetHead, category: str
) -> PhenotypeGeneTransformer:
    """The model with this head for `category`; the same object where it has it already.

    Otherwise a new model with the same weights: with a new classifier, or without the one that
    would be read instead of the masked slot.

    Raises
    ------
    ConfigError
        If the model has no head over its input ids, which the masked slot needs.
    """
    if head == "masked_slot" and model.size["head"] == "none":
        raise ConfigError(
            "the model has a classifier and no head over its input ids",
            where="finetune.head",
            expected="cls",
            found=head,
        )
    if (head == "cls") == (model.classified == category):
        return model
    classifier = category if head == "cls" else None
    size: dict[str, Any] = {**model.size, "classifier": classifier, "n_classes": None}
    made = PhenotypeGeneTransformer(
        model.vocabulary,
        **size,
        checkpoint_activations=model.checkpoint_activations,
        compile=model.compiled,
    )
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith("classifier.")}
    made.load_state_dict(weights, strict=classifier is None)
    return made


def prepare(model: PhenotypeGeneTransformer, finetune: FineTuning) -> None:
    """Let the weights of the arm learn and no others; "lora" adds its layers to the model.

    The head that is not read never learns. Doing it again changes nothing.

    Raises
    ------
    ConfigError
        If the model has fewer blocks than `last_k`, no module of `lora_modules` or a head that is
        its embedding and nothing else learns, or `peft` is not installed.
    """
    blocks = range(len(model.blocks))
    if finetune.arm == "last_k" and finetune.last_k > len(blocks):
        raise ConfigError(
            f"the model has {len(blocks)} blocks",
            where="finetune.last_k",
            expected=f"at most {len(blocks)}",
            found=str(finetune.last_k),
        )
    if finetune.arm == "lora" and not any("lora_" in n for n, _ in model.named_parameters()):
        _add_adapters(model, finetune)
    other_head = HEADS["cls" if finetune.head == "masked_slot" else "masked_slot"]
    trained = {
        "full": ("",),
        "linear_probe": (),
        "last_k": (*(f"blocks.{i}." for i in blocks[-finetune.last_k :]), "final_norm."),
        "lora": (),
    }[finetune.arm]
    for name, weight in model.named_parameters():
        learns = name.startswith((*trained, *HEADS[finetune.head])) or "lora_" in name
        weight.requires_grad_(learns and not name.startswith(other_head))
    if not any(weight.requires_grad and weight.ndim > 1 for weight in model.parameters()):
        raise ConfigError(
            "the model's head has no weights of its own: it is the value embedding",
            where="finetune.head",
            expected="cls",
            found=f"{finetune.head} with finetune.arm={finetune.arm}",
        )


def freeze(model: PhenotypeGeneTransformer) -> None:
    """Put what stands before the first trained weight into evaluation mode: a fixed function.

    Dropout there would only blur what the trained part reads. The rest stays as it is.
    """
    embeddings = (model.value_embedding, model.identity_embedding, model.embedding_norm)
    if any(map(_learns, embeddings)):
        return
    model.dropout.eval()
    for block in model.blocks:
        if _learns(block):
            return
        block.eval()


def _learns(module: nn.Module) -> bool:
    return any(weight.requires_grad for weight in module.parameters())


def _add_adapters(model: PhenotypeGeneTransformer, finetune: FineTuning) -> None:
    require_extra("lora", "peft", where="finetune.arm")
    from peft import LoraConfig, inject_adapter_in_model

    known = {n.rpartition(".")[2] for n, m in model.blocks.named_modules() if type(m) is nn.Linear}
    unknown = [name for name in finetune.lora_modules if name not in known]
    if unknown or not finetune.lora_modules:
        raise ConfigError(
            f"the blocks have no linear layer {', '.join(map(repr, unknown))}".rstrip(),
            where="finetune.lora_modules",
            expected=f"some of {closest('', sorted(known))}",
        )
    config = LoraConfig(
        r=finetune.lora_rank,
        lora_alpha=finetune.lora_alpha,
        lora_dropout=finetune.lora_dropout,
        target_modules=rf"blocks\..*\.({'|'.join(finetune.lora_modules)})",
    )
    inject_adapter_in_model(config, model)
