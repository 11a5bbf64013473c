"""Every arm trains every published model, from the weights of its checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradgene.checkpoints import load_checkpoint
from gradgene.errors import ConfigError
from gradgene.lit import FineTuning, with_head
from gradgene.lit.finetuning import freeze, prepare
from gradgene.tokens import TokenBatch
from tests.parity.test_published import genes_of

PUBLISHED = (
    "perturbgene/run",
    "perturbgene/run_cls",
    "polygene_cam/run",
    "polygene_dv/run",
    "polygene_bert/checkpoint-1000",
)
#: Published models without a head over their ids, and those whose head is their embedding.
HEADLESS, EMBEDDED = "perturbgene/run_cls", "polygene_dv/run"


@pytest.mark.parametrize("head", ["masked_slot", "cls"])
@pytest.mark.parametrize("arm", ["full", "linear_probe", "last_k", "lora"])
@pytest.mark.parametrize("path", PUBLISHED)
def test_what_should_learn_gets_a_gradient(shared: Path, path: str, arm: str, head: str) -> None:
    loaded = load_checkpoint(
        shared / "fixtures" / path, genes=genes_of(shared, path.partition("/")[0])
    )
    vocabulary = loaded.vocabulary
    category = vocabulary.phenotypes[0]
    finetune = FineTuning(arm=arm, head=head, lora_rank=2)  # type: ignore[arg-type]
    if head == "masked_slot" and path == HEADLESS:
        with pytest.raises(ConfigError, match=r"finetune\.head"):
            with_head(loaded.model, finetune.head, category)
        return
    model = with_head(loaded.model, finetune.head, category)
    if (path, arm, head) == (EMBEDDED, "linear_probe", "masked_slot"):
        with pytest.raises(ConfigError, match="value embedding"):
            prepare(model, finetune)
        return
    prepare(model.train(), finetune)
    freeze(model)
    tokens = some_tokens(loaded.model.vocabulary.n_values, loaded.model.vocabulary.n_types)
    embeddings_ntd = model.embed(tokens)
    logits_nv = model.read(embeddings_ntd, tokens.attention_mask_nt, category)
    ids = list(vocabulary.label_ids(category))
    logits_nv[:, ids].log_softmax(dim=1)[:, 0].mean().backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is not None) == weight.requires_grad, name
    before = {k: v.clone() for k, v in loaded.model.state_dict().items()}
    after = model.state_dict()
    kept = {k: v for k, v in before.items() if k in after and not k.startswith("classifier.")}
    assert len(kept) > 10 and all(v.equal(after[k]) for k, v in kept.items())


def some_tokens(n_values: int, n_types: int) -> TokenBatch:
    """Three cells of twelve tokens of any kind."""
    generator = torch.Generator().manual_seed(0)
    ids_nt = torch.randint(0, n_values, (3, 12), generator=generator)
    types_nt = torch.randint(0, n_types, (3, 12), generator=generator)
    mask_nt = torch.ones(3, 12, dtype=torch.bool)
    return TokenBatch(ids_nt, types_nt, mask_nt, torch.full_like(ids_nt, -1))
