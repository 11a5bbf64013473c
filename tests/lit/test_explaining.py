"""A batch that does not fit in memory is explained in halves, as if it had fitted."""

from __future__ import annotations

from dataclasses import fields
from typing import cast

import numpy as np
import pandas as pd
import pytest
import torch

from gradgene.attribution import METHODS, Attribution, GradXDelta, NotFiniteError, build_method
from gradgene.errors import AttributionError
from gradgene.halving import TooLargeError, limit_of
from gradgene.lit import AttributionCollector, Explained, PhenotypeModule, pair_loader
from gradgene.lit.explaining import explain_possible
from gradgene.pairs import BASELINES, BlendedBatch
from tests.lit.test_pairs import TARGET, Study, collect, new_sums
from tests.lit.toys import trainer
from tests.small_memory import SmallMemory

pytestmark = pytest.mark.usefixtures("small_heap")

POSSIBLE = [
    (name, baseline)
    for name, method in METHODS.items()
    for baseline in ("cell_state", "empty", "zero")
    if BASELINES[baseline].has_tokens or not method.needs_tokens
]
#: Points of a path, so that halves of single rows take no time.
FEW = {
    "integrated_gradients": {"n_steps": 3},
    "captum_integrated_gradients": {"n_steps": 3},
    "gradient_shap": {"n_samples": 4},
}


@pytest.fixture
def study() -> Study:
    """A study of its own, for what is remembered of its model."""
    return Study()


def batch_of(study: Study) -> BlendedBatch:
    """All pairs of the study in one batch."""
    (batch,) = pair_loader(study.cells, study.tokenizer, study.plan, 10**6)
    return cast(BlendedBatch, batch)


def assert_close(found: Attribution, expected: Attribution) -> None:
    """The same pairs on the same positions, with the same scores but for rounding."""
    assert torch.equal(found.gene_ids_pt, expected.gene_ids_pt)
    assert (found.n_header, found.method) == (expected.n_header, expected.method)
    for way in ("forward", "backward"):
        for field in fields(expected.forward):
            one, other = (getattr(getattr(a, way), field.name) for a in (found, expected))
            assert (one is None) == (other is None), field.name
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("name", "baseline"), POSSIBLE)
@pytest.mark.parametrize("fits", [60])
def test_halves_are_the_whole(
    study: Study, name: str, baseline: str, fits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, against = build_method(name, **FEW.get(name, {})), BASELINES[baseline]()
    batch = batch_of(study)
    whole = method.attribute(study.model, batch, TARGET, against)
    memory = SmallMemory(monkeypatch, fits)
    module = study.module(method, against)
    found = module.predict_step(batch, 0)
    assert isinstance(found, Attribution)
    assert_close(found, whole)
    assert max(memory.done, default=0) <= fits
    assert memory.failed
    n_failed = len(memory.failed)
    assert_close(cast(Attribution, module.predict_step(batch, 1)), whole)
    assert len(memory.failed) == n_failed, "what did not fit is not tried again"


def test_sums_and_ledger_under_lightning(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    method, against = build_method("deeplift"), BASELINES["cell_state"]()
    sums, collector = collect(study, method, against, 150)
    memory = SmallMemory(monkeypatch, 70)
    halved_sums, halved = collect(study, method, against, 150)
    assert memory.failed and (limit_of(study.model, "deeplift").tokens or np.inf) <= 70
    assert [b.tolist() for b in halved.batches] == [b.tolist() for b in collector.batches]
    pd.testing.assert_frame_equal(halved.pairs(), collector.pairs(), atol=1e-11)
    for name, values in sums.gene_sums().sums.items():
        np.testing.assert_allclose(halved_sums.gene_sums().sums[name], values, atol=1e-10)


def test_cells_of_a_per_cell_method_are_halved_inside(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SmallMemory(monkeypatch, 70)
    method, against = GradXDelta(), BASELINES["cell_state"]()
    study.module(method, against).predict_step(batch_of(study), 0)
    assert memory.failed
    assert limit_of(study.model, "grad_x_delta").tokens is None, "its pairs stay together"
    assert (limit_of(study.model, "grad_x_delta, cells").tokens or np.inf) <= 70


@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize("name", ["deeplift", "grad_x_delta"])
def test_a_pair_that_does_not_fit_is_named(
    study: Study, name: str, on_error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where pairs without finite scores are left out."""
    SmallMemory(monkeypatch, 5)
    method, against = build_method(name), BASELINES["cell_state"]()
    module = study.module(method, against)
    module.explain_with(method, TARGET, against, on_error)  # type: ignore[arg-type]
    collector = AttributionCollector(new_sums(study, method, against), study.plan)
    loader = pair_loader(study.cells, study.tokenizer, study.plan, 150)
    with pytest.raises(AttributionError, match="does not fit in memory even alone") as caught:
        trainer(inference_mode=False, callbacks=[collector]).predict(
            module, loader, return_predictions=False
        )
    first = study.plan.table.iloc[int(collector.batches[0][0])]
    said = str(caught.value)
    assert f"pair {first['pair']} does" in said and f"attribution.method={name}" in said
    assert f"input {first['input']!r}, baseline {first['baseline']!r}: " in said
    assert "tokens together" in said and "trainer=gpu" in said and "smaller model" in said


def test_a_caller_that_wants_errors_gets_it(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    SmallMemory(monkeypatch, 5)
    module: PhenotypeModule = study.module(build_method("deeplift"), BASELINES["cell_state"]())
    with pytest.raises(TooLargeError, match="deeplift: does not fit"):
        module.predict_step(batch_of(study), 0)


def test_the_position_is_that_in_the_whole_batch(study: Study) -> None:
    """Where a pair without finite scores is being looked for when another does not fit."""
    batch = batch_of(study)
    large = (int(batch.input_rows_p[8]), int(batch.baseline_rows_p[8]))

    def explain(pairs: BlendedBatch) -> Attribution:
        if len(pairs) == len(batch):
            raise NotFiniteError("scores are NaN in 1 of 11 pairs")
        shown = [*zip(pairs.input_rows_p.tolist(), pairs.baseline_rows_p.tolist(), strict=True)]
        if large in shown:
            raise TooLargeError("deeplift", shown.index(large), 99)
        raise NotFiniteError("scores are NaN in 1 of 5 pairs")

    found: Explained = explain_possible(explain, batch, all_errors=True)
    assert [*found.errors] == [8] and found.too_large and found.attribution is None
