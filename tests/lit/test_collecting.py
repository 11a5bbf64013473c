"""What was broken off goes on where it was, and pairs without finite scores are told by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from gradgene.attribution import Attribution, AttributionMethod, DeepLift, build_method
from gradgene.errors import AttributionError
from gradgene.genes import GeneSumsMetric
from gradgene.lit import AttributionCollector, Explained, Keeping, pair_loader
from gradgene.pairs import CellStateBaseline, EmptyBaseline
from gradgene.store import PairShardWriter, merge_manifests, read_pair_scores
from tests.lit.test_pairs import TARGET, Study, new_sums
from tests.lit.toys import Watched, trainer

BASELINE = CellStateBaseline()
BATCH_TOKENS = 100


class BrokenOffError(Exception):
    """Ends a run in its middle, as a kill would."""


@pytest.fixture(scope="module")
def study() -> Study:
    """One study for all tests, which leave it as it is."""
    return Study()


def run(
    study: Study,
    folder: Path | None,
    method: AttributionMethod,
    *,
    stop_after: int | None = None,
    every_s: float = 0.0,
    key: str = "key",
    on_error: Any = "stop",
    shards: Path | None = None,
) -> tuple[GeneSumsMetric, AttributionCollector, int]:
    """Attribute the pairs; with `stop_after`, break off after so many batches of this run.

    Also returns how many batches were explained.
    """
    loader = pair_loader(study.cells, study.tokenizer, study.plan, BATCH_TOKENS)
    sampler: Any = loader.sampler
    sums = new_sums(study, method, BASELINE)
    done: list[int] = []

    def count(found: Attribution, pairs: np.ndarray) -> None:
        done.append(len(pairs))
        if stop_after is not None and len(done) > stop_after:
            raise BrokenOffError

    vocabulary = study.tokenizer.vocabulary
    writer: Callable[[int], PairShardWriter] | None = None
    if shards is not None:

        def writer(rank: int) -> PairShardWriter:
            return PairShardWriter(shards, vocabulary.genes, vocabulary.phenotypes, key, rank)

    keeping = Keeping(folder, key, sampler, every_s, writer) if folder else None
    collector = Watched(sums, study.plan, count, keeping)
    module = study.module(method, BASELINE)
    module.explain_with(method, TARGET, BASELINE, on_error)
    with warnings.catch_warnings():  # as commands do: there may be nothing left to do
        warnings.filterwarnings("ignore", message="Total length of .* across ranks is zero")
        trainer(inference_mode=False, callbacks=[collector]).predict(
            module, loader, return_predictions=False
        )
    collector.finish()
    return sums, collector, len(done)


def assert_identical(
    one: tuple[GeneSumsMetric, AttributionCollector, int],
    other: tuple[GeneSumsMetric, AttributionCollector, int],
) -> None:
    """States and ledger to the last bit."""
    theirs = other[0].state_dict()
    assert set(one[0].state_dict()) == set(theirs) and len(theirs) > 4
    for name, value in one[0].state_dict().items():
        assert torch.equal(value, theirs[name]), name
    pd.testing.assert_frame_equal(one[1].pairs(), other[1].pairs(), check_exact=True)


@pytest.mark.parametrize("name", ["deeplift", "gradient_shap", "random"])
@pytest.mark.parametrize("stop_after", [0, 1, 4])
def test_what_was_broken_off_is_finished(
    study: Study, tmp_path: Path, name: str, stop_after: int
) -> None:
    """Wherever: also methods that draw give what one run gives, and no batch is done twice."""
    method = build_method(name)
    whole = run(study, None, method)
    assert whole[2] > 5
    with pytest.raises(BrokenOffError):
        run(study, tmp_path, method, stop_after=stop_after)
    torch.rand(7)  # what is drawn meanwhile changes nothing
    resumed = run(study, tmp_path, method)
    assert (resumed[1].n_resumed, resumed[2]) == (stop_after, whole[2] - stop_after)
    assert_identical(resumed, whole)
    again = run(study, tmp_path, method)  # what is finished is not done again
    assert again[2] == 0
    assert_identical(again, whole)


def test_broken_off_again_and_again(study: Study, tmp_path: Path) -> None:
    method = build_method("grad_x_delta")
    whole = run(study, None, method)
    for _ in range(whole[2] - 1):
        with pytest.raises(BrokenOffError):
            run(study, tmp_path, method, stop_after=1)
    resumed = run(study, tmp_path, method)
    assert resumed[2] == 1
    assert_identical(resumed, whole)


def test_progress_is_not_written_all_the_time(study: Study, tmp_path: Path) -> None:
    method = build_method("random")
    with pytest.raises(BrokenOffError):
        run(study, tmp_path, method, stop_after=3, every_s=1000.0)
    assert [*tmp_path.iterdir()] == []
    whole = run(study, tmp_path, method, every_s=1000.0)
    assert [f.name for f in tmp_path.iterdir()] == ["rank-0.safetensors"]
    assert_identical(run(study, tmp_path, method), whole)


def test_progress_of_other_settings_is_left_alone(study: Study, tmp_path: Path) -> None:
    method = build_method("random")
    with pytest.raises(BrokenOffError):
        run(study, tmp_path, method, stop_after=3)
    _, collector, n = run(study, tmp_path, method, key="other")
    assert collector.n_resumed == 0 and n > 5
    assert collector.note == "what was done before has another configuration"


def test_progress_of_other_pairs_is_left_alone(study: Study, tmp_path: Path) -> None:
    method = build_method("random")
    run(study, tmp_path, method)
    shorter = Study()
    shorter.plan = study.plan.take(np.arange(10))
    _, collector, _ = run(shorter, tmp_path, method)
    assert collector.note == "what was done before has another set of pairs"
    assert len(collector.pairs()) == 10


def test_shards_go_on_as_well(study: Study, tmp_path: Path) -> None:
    method = build_method("deeplift")
    folders = tmp_path / "whole", tmp_path / "broken"
    run(study, tmp_path / "a", method, shards=folders[0])
    # Two batches are kept; the third shard is written, and known to nobody.
    with pytest.raises(BrokenOffError):
        run(study, tmp_path / "b", method, stop_after=2, shards=folders[1])
    assert len([*folders[1].glob("part-*.parquet")]) == 3
    _, collector, _ = run(study, tmp_path / "b", method, shards=folders[1])
    assert collector.n_resumed == 2 and collector.note == ""
    for folder in folders:
        merge_manifests(folder, 1, len(study.plan))
    names = [sorted(f.name for f in folder.iterdir()) for folder in folders]
    assert names[0] == names[1]
    for name in names[0]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert sum(len(frame) for frame in read_pair_scores(folders[1]).frames()) > 100


def test_lost_shards_begin_anew(study: Study, tmp_path: Path) -> None:
    method = build_method("random")
    with pytest.raises(BrokenOffError):
        run(study, tmp_path / "a", method, stop_after=2, shards=tmp_path / "pairs")
    (tmp_path / "pairs" / "part-000-00000.parquet").unlink()
    _, collector, _ = run(study, tmp_path / "a", method, shards=tmp_path / "pairs")
    assert collector.n_resumed == 0 and "shards" in collector.note
    merge_manifests(tmp_path / "pairs", 1, len(study.plan))
    assert read_pair_scores(tmp_path / "pairs").n_pairs == len(study.plan)


@dataclass(frozen=True)
class Failing(DeepLift):
    """DeepLIFT that finds NaN wherever an input cell has as many genes as one of `lengths`."""

    lengths: tuple[int, ...] = ()
    way: str = "forward"
    value: float = float("nan")
    name: ClassVar[str] = "deeplift"

    def _both_ways(self, model: Any, passes: Any, target: Any, swaps: bool) -> Any:
        forward, backward = super()._both_ways(model, passes, target, swaps)
        genes_p = (passes[0].blended.input.gene_ids_nt >= 0).sum(dim=1)
        bad_p = torch.isin(genes_p, torch.tensor(self.lengths))
        found = {"forward": forward, "backward": backward}
        one = found[self.way]
        found[self.way] = replace(
            one, scores_pt=torch.where(bad_p[:, None], self.value, one.scores_pt)
        )
        return found["forward"], found["backward"]


def lengths(study: Study) -> np.ndarray:
    """(pairs,) genes of the input cell of each pair."""
    expressed = study.cells.matrix_ng.toarray() >= study.tokenizer.vocabulary.bin_edges[0]
    found: np.ndarray = expressed[study.plan.input_rows].sum(axis=1)
    return found


@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_pair_without_finite_scores_stops_by_name(study: Study, way: str, value: float) -> None:
    length_p = lengths(study)
    wanted = int(np.unique(length_p)[0])
    method = Failing(lengths=(wanted,), way=way, value=value)
    with pytest.raises(AttributionError) as error:
        run(study, None, method)
    said = str(error.value)
    pair = next(p for p in range(len(study.plan)) if f"pair {p} has no finite scores" in said)
    assert length_p[pair] == wanted
    row = study.plan.table.iloc[pair]
    assert said.startswith("attribution.method=deeplift, layer=total: ")
    assert f"input {row['input']!r}, baseline {row['baseline']!r}: {way} scores" in said
    assert "attribution.on_error=skip" in said


@pytest.mark.parametrize("n_bad", [1, 3])
def test_pairs_without_finite_scores_are_left_out(study: Study, tmp_path: Path, n_bad: int) -> None:
    length_p = lengths(study)
    bad = tuple(map(int, np.unique(length_p)[:n_bad]))
    good = np.flatnonzero(~np.isin(length_p, bad))
    skipped = np.flatnonzero(np.isin(length_p, bad))
    assert len(good) and len(skipped)
    method = Failing(lengths=bad)
    sums, collector, _ = run(
        study, tmp_path / "a", method, on_error="skip", shards=tmp_path / "pairs"
    )
    assert collector.pairs()["pair"].tolist() == good.tolist()
    left_out = collector.left_out()
    assert left_out["pair"].tolist() == skipped.tolist()
    assert left_out["input"].tolist() == study.plan.table["input"].iloc[skipped].tolist()
    assert set(left_out["reason"]) == {"forward scores are NaN or infinite"}
    merge_manifests(tmp_path / "pairs", 1, len(study.plan), skipped.tolist())
    assert read_pair_scores(tmp_path / "pairs").skipped == tuple(skipped)
    # What is left is as if there had been no other pairs.
    rest = Study()
    rest.plan = study.plan.take(good)
    expected = run(rest, None, build_method("deeplift"))[0].gene_sums()
    found = sums.gene_sums()
    assert found.n_pairs == len(good)
    for name in ("forward", "forward/abs", "embedding", "presence", "present"):
        np.testing.assert_allclose(found.mean(name), expected.mean(name), atol=1e-9, err_msg=name)
    # And they stay left out of what goes on later.
    with pytest.raises(BrokenOffError):
        run(study, tmp_path / "b", method, on_error="skip", stop_after=1)
    assert_identical(run(study, tmp_path / "b", method, on_error="skip"), (sums, collector, 0))


def test_nothing_left(study: Study) -> None:
    method = Failing(lengths=tuple(map(int, np.unique(lengths(study)))))
    _, collector, _ = run(study, None, method, on_error="skip")
    with pytest.raises(AttributionError, match=r"not one pair.*found 11 pairs left out"):
        collector.pairs()


def test_what_is_wrong_with_all_pairs_is_not_a_pair_s_fault(study: Study) -> None:
    """An error of method and model is raised as it is, also where pairs may be skipped."""
    method = build_method("deeplift")
    module = study.module(method, BASELINE)
    module.explain_with(method, replace(TARGET, label="no such label"), BASELINE, "skip")
    loader = pair_loader(study.cells, study.tokenizer, study.plan, BATCH_TOKENS)
    with pytest.raises(Exception, match="no such label"):
        trainer(inference_mode=False).predict(module, loader)


def test_predictions_without_a_collector_say_what_they_are(study: Study) -> None:
    """By default the error is raised there and then; asked to, the step gives what it could do."""
    method = Failing(lengths=(int(lengths(study)[0]),))
    module = study.module(method, EmptyBaseline())
    (batch,) = [*pair_loader(study.cells, study.tokenizer, study.plan, 10**6)]
    with pytest.raises(AttributionError, match="NaN or infinite in"):
        module.predict_step(batch, 0)
    module.explain_with(method, TARGET, BASELINE, "skip")
    found = module.predict_step(batch, 0)
    assert isinstance(found, Explained) and found.attribution is not None
    assert len(found.attribution.gene_ids_pt) == len(found.kept)
    assert sorted([*found.kept, *found.errors]) == [*range(11)]
