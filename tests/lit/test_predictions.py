"""`trainer.predict` gives attributions back, whatever Lightning puts around them."""

from __future__ import annotations

import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import lightning
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gradgene.attribution import METHODS, Attribution, AttributionMethod, build_method
from gradgene.errors import AttributionError
from gradgene.genes import build_gene_table, expression_of_pairs
from gradgene.lit import AttributionCollector, pair_loader
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BASELINES, BaselineStrategy, BlendedBatch, MeanBaseline
from gradgene.store import PairShardWriter
from gradgene.tokens import TokenBatch
from tests.lit.test_pairs import TARGET, Study, new_sums
from tests.lit.toys import Watched, trainer
from tests.planted import PHENOTYPES

#: Methods whose scores are of differences, so that what both members share scores exactly 0.
COMPARING = [name for name, method in METHODS.items() if method.needs_baseline]
#: Methods with the baselines that they can explain against.
POSSIBLE = [
    (name, baseline)
    for name, method in METHODS.items()
    for baseline in BASELINES
    if BASELINES[baseline].has_tokens or not method.needs_tokens
]


@pytest.fixture
def study() -> Study:
    """A study of float32 weights, as they are trained; a plugin may convert them."""
    made = Study()
    made.model.float()
    return made


def batches(study: Study) -> DataLoader[BlendedBatch]:
    """The plan of the study in several batches."""
    return pair_loader(study.cells, study.tokenizer, study.plan, 150)


def predicted(
    study: Study,
    method: AttributionMethod,
    baseline: BaselineStrategy,
    loader: DataLoader[BlendedBatch] | None = None,
    **settings: Any,
) -> list[Attribution]:
    """What `trainer.predict` returns."""
    with warnings.catch_warnings():
        # Lightning's own use of torch's tree utilities, met with some precision plugins.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
        found = trainer(**settings).predict(
            study.module(method, baseline), loader or batches(study)
        )
    return cast(list[Attribution], found)


def tensors(attribution: Attribution) -> dict[str, Tensor | None]:
    """Everything measured, by name."""
    return {
        f"{way}.{field.name}": getattr(getattr(attribution, way), field.name)
        for way in ("forward", "backward")
        for field in fields(attribution.forward)
    }


def assert_equal(found: list[Attribution], expected: list[Attribution]) -> None:
    """Bit by bit."""
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.gene_ids_pt, other.gene_ids_pt)
        theirs = tensors(other)
        for name, value in tensors(one).items():
            same = theirs[name]
            assert (value is None) == (same is None), name
            assert value is None or torch.equal(value, cast(Tensor, same)), name


@pytest.mark.parametrize(
    ("name", "baseline"), [one for one in POSSIBLE if one[1] in ("cell_state", "zero")]
)
def test_predict_is_the_method(study: Study, name: str, baseline: str) -> None:
    """Lightning's default settings, without inference mode, and under autocast."""
    method, against = build_method(name), BASELINES[baseline]()
    direct = [method.attribute(study.model, b, TARGET, against) for b in batches(study)]
    assert len(direct) > 1
    for settings in ({}, {"inference_mode": False}, {"precision": "bf16-mixed"}):
        found = predicted(study, method, against, **settings)
        assert_equal(found, direct)
        assert not any(
            t.is_inference() for f in found for t in tensors(f).values() if t is not None
        )


def test_a_trainer_as_lightning_makes_it(study: Study, tmp_path: Path) -> None:
    method, against = build_method("deeplift"), BASELINES["cell_state"]()
    plain = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    found = plain.predict(study.module(method, against), batches(study))
    direct = [method.attribute(study.model, b, TARGET, against) for b in batches(study)]
    assert_equal(cast(list[Attribution], found), direct)


@pytest.mark.parametrize("name", METHODS)
def test_half_precision_weights_are_explained_as_they_are(study: Study, name: str) -> None:
    """Lightning rounds them in place; scores come in float32, and stay those of the method."""
    method, against = build_method(name), BASELINES["cell_state"]()
    found = predicted(study, method, against, precision="bf16-true")
    assert next(study.model.parameters()).dtype == torch.bfloat16
    direct = [method.attribute(study.model, b, TARGET, against) for b in batches(study)]
    for one, other in zip(found, direct, strict=True):
        scores = one.forward.scores_pt
        assert scores.dtype == torch.float32 and bool(torch.isfinite(scores).all())
        worst = float((scores - other.forward.scores_pt).abs().max())
        assert worst <= 0.05 * float(scores.abs().max())


@pytest.mark.parametrize(("name", "baseline"), POSSIBLE)
def test_the_target_is_hidden_in_both_members(study: Study, name: str, baseline: str) -> None:
    method, against = build_method(name), BASELINES[baseline]()
    slot = study.tokenizer.vocabulary.slot("disease")
    first = next(iter(batches(study)))
    found = predicted(study, method, against, loader_of(first))
    labels = study.tokenizer.vocabulary.label_ids("disease")
    ids = first.cells.input_ids_nt.clone()
    ids[:, slot] = labels[0] + labels[1] - ids[:, slot]  # every cell of the other label
    swapped = first.with_cells(replace(first.cells, input_ids_nt=ids))
    assert not torch.equal(swapped.input.input_ids_nt, first.input.input_ids_nt)
    assert_equal(predicted(study, method, against, loader_of(swapped)), found)
    if name in COMPARING:
        for way in (found[0].forward, found[0].backward):
            assert not way.scores_pt[:, slot].any()
            assert not way.scores_pt[:, 0].any()


def loader_of(blended: BlendedBatch) -> DataLoader[BlendedBatch]:
    """One batch that is there already."""
    return DataLoader(cast(Dataset[BlendedBatch], [blended]), batch_size=None)


def test_phenotype_tokens_are_rows_of_table_and_shards(study: Study, tmp_path: Path) -> None:
    method, against = build_method("deeplift"), BASELINES["cell_state"]()
    vocabulary, plan = study.tokenizer.vocabulary, study.plan
    sums = new_sums(study, method, against)
    writer = PairShardWriter(tmp_path, vocabulary.genes, vocabulary.phenotypes, "abc")
    collector = Watched(sums, plan, writer.write)
    found = predicted(study, method, against, callbacks=[collector])
    expression = expression_of_pairs(study.cells, plan, vocabulary.bin_edges[0])
    facts = dict.fromkeys(
        ("method", "baseline", "target", "model", "split", "seed", "config_hash"), None
    )
    table = build_gene_table(
        sums.gene_sums(), expression, vocabulary.phenotypes, "forward", "signed", facts
    ).frame.set_index("gene")
    shards = pd.concat(pd.read_parquet(file) for file in sorted(tmp_path.glob("*.parquet")))
    scored = np.concatenate([one.forward.scores_pt[:, 1:4].numpy() for one in found])
    for slot, category in enumerate(PHENOTYPES):
        rows = shards[shards["gene"] == f"@{category}"]
        assert sorted(rows["pair"]) == [*range(len(plan))]
        np.testing.assert_allclose(np.sort(rows["forward"]), np.sort(scored[:, slot]))
        mean = table.loc[f"@{category}", "score"]
        assert mean == pytest.approx(scored[:, slot].mean(), abs=1e-6)
    a, b = (study.cells.obs.iloc[rows] for rows in (plan.input_rows, plan.baseline_rows))
    differs = a["cell_type"].to_numpy() != b["cell_type"].to_numpy()
    assert differs.any() and not differs.all()
    by_pair = shards[shards["gene"] == "@cell_type"].sort_values("pair")["forward"].to_numpy()
    assert ((by_pair != 0) == differs).all()
    assert not scored[:, PHENOTYPES.index("disease")].any()


def test_means_of_controls_are_served_as_baselines(study: Study) -> None:
    """The blended baseline is the averaged cell, and the ledger and the table say so."""
    cells, plan = MeanBaseline().arrange(study.cells, study.plan)
    method, loader = build_method("deeplift"), pair_loader(cells, study.tokenizer, plan, 150)
    averaged = Study()
    averaged.cells, averaged.plan = cells, plan
    collector = AttributionCollector(new_sums(averaged, method, MeanBaseline()), plan)
    found = predicted(study, method, MeanBaseline(), loader, callbacks=[collector])
    assert {one.baseline for one in found} == {"mean"}
    ledger = collector.pairs()
    assert len(ledger) == study.plan.table["input"].nunique() < len(study.plan)
    assert ledger["baseline"].str.fullmatch(r"mean of \d+ control cells \((fe)?male\)").all()
    edge = study.tokenizer.vocabulary.bin_edges[0]
    shown = (cells.matrix_ng[plan.baseline_rows].toarray() >= edge).sum(axis=1)
    assert ledger["n_genes_baseline"].tolist() == shown.tolist()
    assert (ledger["relative_delta"] < 1e-4).all()
    # The fold change is of the cells averaged, where that of their mean logarithm is lower.
    measured = np.expm1(study.cells.matrix_ng.toarray().astype(float))
    controls = np.flatnonzero(study.cells.obs["disease"] == "control")
    sexes = set(study.cells.obs["sex"].iloc[plan.input_rows])
    controls = controls[study.cells.obs["sex"].iloc[controls].isin(sexes)]
    means = [measured[rows].mean(axis=0) + 0.1 for rows in (np.unique(plan.input_rows), controls)]
    expression = expression_of_pairs(cells, plan, edge)
    np.testing.assert_allclose(
        expression["log_fold_change"], np.log2(means[0] / means[1]), rtol=1e-4, atol=1e-6
    )


def test_weights_made_in_inference_mode_are_refused(study: Study) -> None:
    with torch.inference_mode():
        model = PhenotypeGeneTransformer(
            study.tokenizer.vocabulary, dim=8, n_layers=1, n_heads=2, hidden_dim=8
        )
    with pytest.raises(AttributionError, match=r"inference tensors.*outside torch.inference_mode"):
        build_method("deeplift").attribute(model, next(iter(batches(study))), TARGET)


def test_a_copy_shares_no_memory(study: Study) -> None:
    blended = next(iter(batches(study))).with_blank_genes()
    copy = blended.clone()
    for field in fields(blended):
        one, other = getattr(blended, field.name), getattr(copy, field.name)
        assert type(one) is type(other)
        pairs = [(one, other)]
        if isinstance(one, TokenBatch):
            assert one.pad_id == other.pad_id
            pairs = [(tensor, other.tensors()[name]) for name, tensor in one.tensors().items()]
        for a, b in pairs:
            assert torch.equal(a, b) and a.data_ptr() != b.data_ptr()
