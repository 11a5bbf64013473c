"""`trainer.predict` gives attributions back with Lightning's default settings."""

from __future__ import annotations

from typing import cast

import torch
from lightning import Trainer

from gradgene.attribution import Attribution, Target, build_method
from gradgene.lit import FineTuning, MaskedTarget, PhenotypeModule
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, CellStateBaseline
from gradgene.tokens import Tokenizer


def test_predictions_come_back(
    tiny_model: PhenotypeGeneTransformer, tiny_tokenizer: Tokenizer, tiny_pairs: BlendedBatch
) -> None:
    category = tiny_tokenizer.vocabulary.phenotypes[0]
    label, against = tiny_tokenizer.vocabulary.categories[category][:2]
    target = Target(category, label, against)
    module = PhenotypeModule(
        tiny_model, tiny_tokenizer.schema, category, FineTuning(), MaskedTarget()
    )
    module.explain_with(build_method("deeplift"), target, CellStateBaseline())
    loader: torch.utils.data.DataLoader[BlendedBatch] = torch.utils.data.DataLoader(
        cast(torch.utils.data.Dataset[BlendedBatch], [tiny_pairs]), batch_size=None
    )
    trainer = Trainer(
        accelerator="cpu", inference_mode=False, logger=False, enable_progress_bar=False
    )
    results = trainer.predict(module, loader)
    assert results is not None and len(results) == 1
    result = results[0]
    direct = build_method("deeplift").attribute(tiny_model, tiny_pairs, target)
    assert isinstance(result, Attribution)
    assert torch.equal(result.forward.scores_pt, direct.forward.scores_pt)
