"""Published checkpoints: our logits are those of the classes that wrote them (frozen outputs)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch
from torch import Tensor

from gradgene.attribution import DeepLift, GradXDelta, Target
from gradgene.checkpoints import LoadedModel, load_checkpoint, save_folder
from gradgene.pairs import EmptyBaseline, blend
from gradgene.tokens import TokenBatch, mask_category

#: Run or checkpoint -> (fixture, kind, prefix of its batch, prefix of its outputs, categories).
PERTURBGENE = ("cell_type", "tissue", "sex", "development_stage", "disease")
CAM = ("cell_type", "development_stage", "disease", "sex", "tissue")
CASES: dict[str, tuple[str, str, str, str, Sequence[str]]] = {
    "perturbgene/run": ("perturbgene", "perturbgene", "all/batch/", "all/batch/", PERTURBGENE),
    "perturbgene/run/checkpoint-1000-bin": (
        "perturbgene",
        "perturbgene",
        "all/batch/",
        "all/batch/",
        PERTURBGENE,
    ),
    "perturbgene/run_subset/checkpoint-1000": (
        "perturbgene",
        "perturbgene",
        "subset/batch/",
        "subset/batch/",
        ("cell_type", "sex", "disease"),
    ),
    "polygene_cam/run": ("polygene_cam", "polygene_cam", "batch/", "", CAM),
    "polygene_dv/run": ("polygene_dv", "polygene_dv", "batch/", "", ("assay", *CAM)),
    "polygene_bert/checkpoint-1000": ("polygene_bert", "polygene_bert", "all/", "all/", ()),
}
#: Of the fixtures' README files: absolute and relative.
TOLERANCE = {
    "perturbgene": (2e-5, 1e-4),
    "polygene_cam": (5e-5, 1e-4),
    "polygene_dv": (5e-5, 1e-4),
    "polygene_bert": (2e-5, 0.0),
}
EVERY = pytest.mark.parametrize("path", CASES)


def genes_of(shared: Path, fixture: str) -> list[str] | None:
    """The gene list that a user would have to give."""
    folder = shared / "fixtures" / fixture
    if fixture == "perturbgene":
        return [*json.loads((folder / "expected_vocab.json").read_text())["gene_order"]]
    if fixture == "polygene_bert":
        var = ad.read_h5ad(folder / "cells.h5ad").var
        return [str(name) for name in var.sort_values("highly_variable_rank").index[:96]]
    return None


def load(shared: Path, path: str) -> LoadedModel:
    fixture = CASES[path][0] if path in CASES else path.partition("/")[0]
    return load_checkpoint(shared / "fixtures" / path, genes=genes_of(shared, fixture))


def expected(shared: Path, fixture: str) -> Any:
    return np.load(shared / "fixtures" / fixture / "expected.npz")


def batch(arrays: Any, prefix: str) -> TokenBatch:
    """The peer's own tokens; of the model whose types are positions, positions."""
    ids_nt = torch.from_numpy(arrays[f"{prefix}input_ids"])
    types_nt = torch.arange(ids_nt.shape[1]).expand_as(ids_nt)
    if f"{prefix}token_type_ids" in arrays.files:
        types_nt = torch.from_numpy(arrays[f"{prefix}token_type_ids"])
    mask_nt = torch.from_numpy(arrays[f"{prefix}attention_mask"]).bool()
    return TokenBatch(ids_nt, types_nt, mask_nt, torch.full_like(ids_nt, -1))


def close(found: Tensor, wanted: np.ndarray, fixture: str) -> None:
    atol, rtol = TOLERANCE[fixture]
    torch.testing.assert_close(found, torch.from_numpy(wanted), atol=atol, rtol=rtol)


@EVERY
def test_logits(shared: Path, path: str) -> None:
    fixture, kind, tokens_at, outputs_at, _ = CASES[path]
    loaded, arrays = load(shared, path), expected(shared, fixture)
    assert loaded.report.kind == kind
    tokens = batch(arrays, tokens_at)
    seen = tokens.attention_mask_nt
    with torch.no_grad():
        embeddings, output = loaded.model.embed(tokens), loaded.model(tokens)
        hidden_ntd = output.hidden_ntd
        if fixture == "polygene_dv":  # its own output is normalised already
            hidden_ntd = loaded.model.head_norm(hidden_ntd)
    for name, found in (
        ("embedding_output", embeddings),
        ("last_hidden_state", hidden_ntd),
        ("logits", output.logits_ntv),
    ):
        close(found[seen], arrays[outputs_at + name][seen.numpy()], fixture)


def test_logits_without_an_age(shared: Path) -> None:
    arrays = expected(shared, "polygene_bert")
    tokens = batch(arrays, "noage/")
    seen = tokens.attention_mask_nt
    with torch.no_grad():
        logits_ntv = load(shared, "polygene_bert/checkpoint-1000").model(tokens).logits_ntv
    close(logits_ntv[seen], arrays["noage/logits"][seen.numpy()], "polygene_bert")


@pytest.mark.parametrize("path", [path for path, case in CASES.items() if case[-1]])
def test_probabilities_of_each_masked_category(shared: Path, path: str) -> None:
    """Over the whole vocabulary, at the slot that `read` finds by the category's name."""
    fixture, _, tokens_at, outputs_at, categories = CASES[path]
    loaded, arrays = load(shared, path), expected(shared, fixture)
    assert loaded.vocabulary.phenotypes == tuple(categories)
    tokens = batch(arrays, tokens_at)
    where = outputs_at.replace("batch/", "")
    for category in categories:
        masked, _ = mask_category(tokens, loaded.vocabulary, category)
        with torch.no_grad():
            logits_nv = loaded.model.read(
                loaded.model.embed(masked), masked.attention_mask_nt, category
            )
        wanted = torch.from_numpy(arrays[f"{where}masked_probs/{category}"])
        torch.testing.assert_close(logits_nv.softmax(dim=1), wanted, atol=1e-6, rtol=0)


def test_logits_in_double_precision(shared: Path) -> None:
    """What is left in single precision is rounding, and no epsilon of another size."""
    arrays = expected(shared, "perturbgene")
    for path, at in (("perturbgene/run", "all"), ("perturbgene/run_subset", "subset")):
        tokens = batch(arrays, f"{at}/batch/")
        seen = tokens.attention_mask_nt
        with torch.no_grad():
            logits_ntv = load(shared, path).model.double()(tokens).logits_ntv
        wanted = torch.from_numpy(arrays[f"{at}/batch/logits_f64"])[seen]
        torch.testing.assert_close(logits_ntv[seen], wanted, atol=1e-10, rtol=0)


def test_the_training_loss(shared: Path) -> None:
    arrays = expected(shared, "perturbgene")
    tokens = batch(arrays, "mlm/")
    with torch.no_grad():
        logits_ntv = load(shared, "perturbgene/run").model(tokens).logits_ntv
    loss = torch.nn.functional.cross_entropy(
        logits_ntv.flatten(0, 1),
        torch.from_numpy(arrays["mlm/labels"]).flatten(),
        label_smoothing=0.5,
    )
    wanted = float(arrays["mlm/loss_label_smoothing_0.5"])
    assert float(loss) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("at", ["all", "subset"])
def test_logits_of_a_classifier(shared: Path, at: str) -> None:
    loaded, arrays = load(shared, "perturbgene/run_cls"), expected(shared, "perturbgene")
    tokens = batch(arrays, f"{at}/batch/")
    with torch.no_grad():
        found = loaded.model.classify(loaded.model.embed(tokens), tokens.attention_mask_nt)
    close(found, arrays[f"{at}/cls_logits"], "perturbgene")


@pytest.mark.parametrize("path", [*CASES, "perturbgene/run_cls"])
def test_exported_as_a_folder_and_back(shared: Path, tmp_path: Path, path: str) -> None:
    loaded = load(shared, path)
    arrays = expected(shared, path.partition("/")[0])
    tokens = batch(arrays, CASES[path][2] if path in CASES else "all/batch/")
    save_folder(loaded.model, loaded.tokenizer, tmp_path / "hf")
    again = load_checkpoint(tmp_path / "hf")
    assert again.vocabulary == loaded.vocabulary and again.tokenizer == loaded.tokenizer

    def logits(made: LoadedModel) -> Tensor:
        embeddings = made.model.embed(tokens)
        with torch.no_grad():
            if made.model.size["head"] == "none":
                return made.model.classify(embeddings, tokens.attention_mask_nt)
            found: Tensor = made.model(tokens).logits_ntv
            return found

    assert torch.equal(logits(again), logits(loaded))


@pytest.mark.parametrize("path", [path for path in CASES if not path.endswith("-bin")])
def test_attribution_of_their_own_cells(shared: Path, path: str) -> None:
    """From the fixture's cells to scores: complete, and through the peer's own tokens."""
    loaded = load(shared, path)
    cells = ad.read_h5ad(shared / "fixtures" / CASES[path][0] / "cells.h5ad")
    tokens = loaded.tokenizer(cells)
    model, vocabulary = loaded.model.double(), loaded.vocabulary
    one, other = vocabulary.categories["sex"][:2]
    blended = blend(tokens, torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5]))
    for kind in ("margin", "log_probability"):
        asked = Target("sex", one, other, kind)  # type: ignore[arg-type]
        for baseline in (None, EmptyBaseline()):
            found = DeepLift().attribute(model, blended, asked, baseline)
            assert found.forward.relative_delta_p.max() <= 1e-9
            assert (found.forward.f_input_p != found.forward.f_baseline_p).all()
            gradient = GradXDelta().attribute(model, blended, asked, baseline).forward
            torch.testing.assert_close(gradient.f_input_p, found.forward.f_input_p)
            is_gene = found.gene_ids_pt >= 0
            assert (gradient.scores_pt[is_gene] != 0).any()
            assert (found.forward.scores_pt[is_gene] != 0).any()
    # The scalar is the margin that the whole sequence, unattended genes included, gives.
    masked, _ = mask_category(tokens, vocabulary, "sex")
    ids = [vocabulary.label_id("sex", label) for label in (one, other)]
    with torch.no_grad():
        at_slot = model(masked).logits_ntv[:, vocabulary.slot("sex")][:, ids]
    margin = DeepLift().attribute(model, blended, Target("sex", one, other)).forward
    torch.testing.assert_close(
        margin.f_input_p, (at_slot[:, 0] - at_slot[:, 1])[:3], atol=1e-9, rtol=0
    )
