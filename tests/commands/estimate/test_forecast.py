"""What a dry run tells, and that its estimates are right where the cost is known."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from gradgene.commands.estimate import pruning as estimate_pruning
from gradgene.commands.estimate import training as estimate_training
from gradgene.commands.estimate.forecast import Forecast, tell_stages
from gradgene.commands.estimate.pruning import measure_pruning
from gradgene.commands.estimate.training import measure_training
from gradgene.commands.sweep.planned import Estimate, Planned, total
from gradgene.pruning import Judged, PruningSettings
from tests.planted import make_cells, make_model, make_tokenizer


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
        self.now = 100.0
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)


def told(done: tuple[str, ...], **stages: Forecast) -> str:
    """What is printed about these stages."""
    out = io.StringIO()
    work = SimpleNamespace(
        console=Console(file=out, width=100),
        is_done=done.__contains__,
        folder=Path("runs/x"),
        in_cache="pretrain".__eq__,
    )
    tell_stages(work, {k: lambda _, f=f: f for k, f in stages.items()}, "a report")  # type: ignore[arg-type, misc]
    return out.getvalue()


def row(said: str, stage: str) -> list[str]:
    """The cells of a stage's row."""
    (line,) = [one for one in said.splitlines() if one.startswith(f"│ {stage} ")]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_stages_their_states_and_totals():
    said = told(
        ("train",),
        pretrain=Forecast("never asked for either"),
        train=Forecast("never asked for", Estimate(1e9, 1e9)),
        attribute=Forecast("6 pairs", Estimate(100, 500), "the tables"),
        prune=Forecast("20 orders", Estimate(50, 2048)),
        evaluate=Forecast("sanity"),
    )
    assert row(said, "pretrain") == ["pretrain", "in the cache", "", "", ""]
    assert row(said, "train") == ["train", "done", "", "", ""]
    assert row(said, "attribute") == ["attribute", "to do", "6 pairs", "2 min", "500 MB"]
    assert row(said, "evaluate") == ["evaluate", "to do", "sanity", "not estimated", ""]
    assert row(said, "all") == ["all", "", "", "2 min", "2.0 GB"]
    for line in ("attribute: not counting the tables", "then: a report", "results in runs/x"):
        assert line in said.splitlines()


def test_what_is_done_is_not_tried():
    def never(work: object) -> Forecast:
        raise AssertionError

    work = SimpleNamespace(console=Console(file=io.StringIO()), is_done=lambda s: True, folder="x")
    tell_stages(work, {"train": never})  # type: ignore[arg-type]
    assert "done" in work.console.file.getvalue()


def test_one_stage_has_no_total():
    assert "│ all " not in told((), train=Forecast("2 epochs", Estimate(3, 4)))


def test_what_two_jobs_of_a_sweep_share_is_planned_once(tmp_path):
    """Not where nothing is shared, nor with a job that broke before it had planned."""
    tried: list[int] = []

    def tell(job: int, **addresses: str | None) -> str:
        def forecast(_: object) -> Forecast:
            tried.append(job)
            return Forecast("work", Estimate(100.0, 10.0 * job))

        out = io.StringIO()
        work = SimpleNamespace(
            console=Console(file=out, width=100),
            is_done=lambda stage: False,
            in_cache=lambda stage: False,
            shared_as=addresses.get,
            folder="x",
        )
        tell_stages(work, dict.fromkeys(addresses, forecast), planned=Planned(tmp_path, job))  # type: ignore[arg-type]
        return out.getvalue()

    assert "shared" not in tell(0, train="a", prune="b")
    said = tell(1, train="a", prune="c")
    assert row(said, "train") == ["train", "shared with job 0", "", "", ""]
    assert row(said, "prune")[1] == "to do"
    assert "shared" not in tell(2, train=None, prune=None)
    assert tried == [0, 0, 1, 2, 2]
    plans = Planned.read(tmp_path)
    assert [plan.seconds for _, plan in sorted(plans.items())] == [200, 100, 200]
    assert total([*plans.values()]) == "all jobs in turn: about 8 min, 20 MB"


class FakeTrainer:
    """Fits so many batches of a second each, the first of ten, and validates in three."""

    should_stop = False
    strategy = SimpleNamespace(root_device=SimpleNamespace(type="cpu"))

    def __init__(self, clock: Clock, **more: Any) -> None:
        self.clock, self.more = clock, more
        self.n_steps = 0

    def fit(self, module: object, training: range, validation: range) -> None:
        (watch,) = self.more["callbacks"]
        for _ in training:
            self.clock.now += 10.0 if not self.n_steps else 1.0
            self.n_steps += 1
            watch.on_train_batch_end(self)
            if self.should_stop:
                break
        watch.on_validation_start(self)
        self.clock.now += 1.5 * self.more["limit_val_batches"]
        watch.on_validation_end(self)


@pytest.mark.parametrize(("n_batches", "tried"), [(100, 4), (2, 2)])
def test_a_training_is_its_steps_and_validations(n_batches, tried, monkeypatch):
    """3 epochs: 1 s a step without the first one's warm-up, 4 validation batches of 1.5 s."""
    clock, made = Clock(monkeypatch, estimate_training), []

    def trainer(**more: Any) -> FakeTrainer:
        made.append(FakeTrainer(clock, **more))
        return made[-1]

    work = SimpleNamespace(trainer=trainer, device="cpu")
    loaders = range(n_batches), range(4)
    found = measure_training(work, None, loaders, 3 * n_batches, 3)  # type: ignore[arg-type]
    assert found.seconds == pytest.approx(3 * n_batches * 1.0 + 3 * 4 * 1.5)
    assert made[0].n_steps == tried, "a few steps tell"
    assert made[0].more["devices"] == 1 and made[0].more["logger"] is False
    assert made[0].more["enable_checkpointing"] is False


@pytest.fixture
def judged() -> Judged:
    """All the cells of the planted data."""
    cells = make_cells()
    tokenizer = make_tokenizer(cells)
    return Judged.of(tokenizer.prepare(cells), tokenizer, "disease", "case", "control")


def test_a_pruning_is_its_pieces_and_what_comes_before(judged, monkeypatch):
    """10 pieces of 0.5 s after 2 s, of a third of the cells: three times 7 s."""
    clock = Clock(monkeypatch, estimate_pruning)
    n, served = len(judged.tokens), []

    def prune(model: object, some: Judged, rankings: list[Any], settings: object, track: Any):
        assert len(some.tokens) == n // 3 and len(rankings) == 5
        clock.now += 2.0
        for piece in track(list(range(10))):
            served.append(piece)
            clock.now += 0.5

    monkeypatch.setattr(estimate_pruning, "prune", prune)
    monkeypatch.setattr(estimate_pruning, "CELLS", n // 3)
    model = make_model(make_tokenizer(make_cells()).vocabulary)
    found = measure_pruning(model, judged, PruningSettings(ratios=(0, 0.5)), 5)
    assert found.seconds == pytest.approx(3 * (2 + 10 * 0.5))
    assert len(served) == 5 and served != [0, 1, 2, 3, 4], "from all over, until time is up"


def test_a_real_pruning_is_tried_on_some_cells_only(judged, monkeypatch):
    """The real thing calls what the trial relies on: pieces are served, then it stops."""
    tracked: list[int] = []
    pieces = estimate_pruning._Pieces.__call__

    def counted(self: Any, of: list[Any]) -> Iterator[Any]:
        tracked.append(len(of))
        yield from pieces(self, of)

    monkeypatch.setattr(estimate_pruning._Pieces, "__call__", counted)
    monkeypatch.setattr(estimate_pruning, "CELLS", 8)
    model = make_model(make_tokenizer(make_cells()).vocabulary).float()
    found = measure_pruning(model, judged, PruningSettings(ratios=(0, 0.5, 0.9)), 4)
    assert found.seconds > 0 and found.peak_mb > 0 and tracked and tracked[0] > 0
