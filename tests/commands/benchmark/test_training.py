"""Both trainers train the same: same losses step by step, on the same batches."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console

from gradgene.commands.benchmark import training as benchmark_training
from gradgene.commands.benchmark.training import Settings, compare, footprints, make_job, measure
from gradgene.commands.benchmark.training_arms import ARMS, ArmRun, TrainingJob, run_arm
from gradgene.errors import ConfigError

TOY = Settings(steps=4, warm_up=2, batch_size=8, genes_per_cell=12, repeats=1, memory=False)


@pytest.fixture(scope="module")
def job() -> TrainingJob:
    """Six small batches of the demo's cells and a tiny model."""
    return make_job(TOY)


@pytest.fixture(scope="module")
def runs(job: TrainingJob) -> dict[str, ArmRun]:
    """One run of each trainer."""
    return {arm: run_arm(job, arm) for arm in ARMS}


def test_a_job_holds_whole_batches_of_the_size_asked_for(job: TrainingJob) -> None:
    assert len(job.batches) == 6 and all(len(batch) == 8 for batch in job.batches)
    assert job.n_cells == 4 * 8
    assert job.n_tokens == sum(int(b.attention_mask_nt.sum()) for b in job.batches[2:])
    assert all((b.gene_ids_nt >= 0).sum(dim=1).max() <= 12 for b in job.batches)


def test_more_steps_than_an_epoch_has_go_on_with_the_next() -> None:
    long = make_job(replace(TOY, steps=6, warm_up=1, batch_size=200))
    assert len(long.batches) == 7
    ids = [b.input_ids_nt for b in long.batches]
    assert not any(torch.equal(ids[0], other) for other in ids[1:])


def test_both_trainers_have_the_same_losses(runs: dict[str, ArmRun]) -> None:
    ours, theirs = runs["lightning"].losses_k, runs["transformers"].losses_k
    assert ours.shape == (6,) and np.isfinite(ours).all()
    np.testing.assert_allclose(theirs, ours, rtol=1e-6)
    assert len(set(ours.round(4))) > 1


def test_the_losses_are_those_of_a_plain_loop(job: TrainingJob, runs: dict[str, ArmRun]) -> None:
    """What both are meant to do, in ten lines: AdamW at a constant rate, gradients clipped."""
    module = make_job(TOY).module.train()
    optimizer = torch.optim.AdamW(
        module.parameters(),
        lr=module.finetune.learning_rate,
        weight_decay=module.finetune.weight_decay,
    )
    losses = []
    for step, batch in enumerate(job.batches):
        module.on_train_batch_start(batch, step)
        loss = module.loss(*module.logits(batch))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(runs["lightning"].losses_k, losses, rtol=1e-6)


def test_a_run_leaves_the_job_as_it_was(job: TrainingJob, runs: dict[str, ArmRun]) -> None:
    fresh = make_job(TOY).module.state_dict()
    for name, weight in job.module.state_dict().items():
        assert torch.equal(weight, fresh[name]), name


def test_only_steps_after_the_warm_up_are_timed(runs: dict[str, ArmRun]) -> None:
    for run in runs.values():
        assert run.seconds_k.shape == run.processor_k.shape == (4,)
        assert (run.seconds_k > 0).all() and run.setup_seconds > 0


def made(arm: str, seconds: float, losses: list[float] | None = None) -> ArmRun:
    """A run of four timed steps that took `seconds` together."""
    each = np.full(4, seconds / 4)
    return ArmRun(arm, each, 2 * each, 0.5, np.array(losses or [1.0, 0.5, 0.25, 0.2, 0.1, 0.1]))


def test_the_ratio_is_that_of_neighbours(job: TrainingJob) -> None:
    """A machine that slows down threefold in the middle changes no ratio."""
    seconds = [("lightning", 1.0), ("transformers", 1.5), ("lightning", 3.0), ("transformers", 4.5)]
    found = {(f.part, f.name): f for f in compare(job, [made(*s) for s in seconds])}
    both = "lightning / transformers"
    assert found[both, "speed"].value == pytest.approx(1.5) and found[both, "speed"].met
    assert found[both, "by processor time"].value == pytest.approx(1.5)
    assert found["lightning", "cells"].value == pytest.approx(32 / 2.0)
    assert found["transformers", "tokens"].value == pytest.approx(job.n_tokens / 3.0)
    assert found[both, "losses differ by"].value == 0


def test_another_training_is_noticed(job: TrainingJob) -> None:
    other = made("transformers", 1.0, [1.0, 0.5, 0.26, 0.2, 0.1, 0.1])
    found = {f.name: f for f in compare(job, [made("lightning", 1.0), other])}
    assert found["losses differ by"].value == pytest.approx(0.04)
    assert found["losses differ by"].met is False


@pytest.mark.slow
def test_the_whole_comparison() -> None:
    findings = measure(replace(TOY, repeats=2), Console(quiet=True))
    assert findings["lightning / transformers", "losses differ by"] < 1e-6
    steps = findings.tables["steps"]
    assert list(steps["arm"].drop_duplicates()) == ["lightning", "transformers"]
    assert len(steps) == 2 * 2 * 6 and steps["seconds"].isna().sum() == 2 * 2 * 2
    assert list(steps["run"].unique()) == [0, 1, 2, 3]


@pytest.mark.slow
def test_memory_and_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the processes left out, and a compiler that fails."""

    def here(function: object, settings: Settings, arm: str, changes: dict[str, object]) -> object:
        if "compile" in changes:
            raise ConfigError("torch.compile failed on this machine", where="model.compile")
        return function(settings, arm, changes)  # type: ignore[operator]

    monkeypatch.setattr(benchmark_training, "in_fresh_process", here)
    figures = footprints(TOY, 100, Console(quiet=True))
    found = {(f.part, f.name): f for f in figures}
    for part in ("lightning", "transformers", "checkpointing"):
        assert (found[part, "peak resident memory"].value or 0) > 0
    assert (found["checkpointing", "speed, on / off"].value or 0) > 0
    failed = found["torch.compile", "not measured"]
    assert failed.value is None and "failed on this machine" in failed.note


def test_checkpointing_trains_the_same(runs: dict[str, ArmRun]) -> None:
    switched = run_arm(make_job(TOY, checkpoint_activations=True), "lightning")
    np.testing.assert_allclose(switched.losses_k, runs["lightning"].losses_k, rtol=1e-5)


def test_without_transformers_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ConfigError, match=r"needs accelerate.*pip install 'gradgene\[benchmark\]'"):
        measure(TOY, Console(quiet=True))


@pytest.mark.gpu
@pytest.mark.parametrize("arm", ARMS)
def test_cuda_trains_as_the_cpu_does(arm: str) -> None:
    """Without dropout, which draws differently there."""
    ours = run_arm(make_job(TOY, dropout=0.0), arm)
    found = run_arm(make_job(replace(TOY, device="cuda"), dropout=0.0), arm)
    np.testing.assert_allclose(found.losses_k, ours.losses_k, rtol=1e-3)
