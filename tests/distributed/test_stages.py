"""All stages in several processes: the tables of one, and nobody waits for one that is gone."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from gradgene.checkpoints import load_checkpoint
from gradgene.commands.main import main
from gradgene.commands.prune import progress as prune_progress
from gradgene.commands.prune.progress import Share
from gradgene.commands.run.company import Company
from tests.distributed.forking import run_program, run_ranks
from tests.distributed.test_two_processes import environment, run
from tests.forked import PATIENCE_S
from tests.integration.tiny import QUICK, contents, progress, read, words, write_cells

pytestmark = pytest.mark.slow

FAILING = Path(__file__).with_name("failing.py")
STAGES = ["train", "attribute", "prune", "evaluate"]
TABLES = ("curves", "curves_by_donor", "rankings", "summary")


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny cells."""
    return write_cells(tmp_path_factory.mktemp("cells") / "cells.h5ad")


@pytest.fixture(scope="module")
def studied(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole study in two processes."""
    folder = tmp_path_factory.mktemp("studied") / "run"
    said = run_program("-m", "gradgene", *line("study", cells, folder))
    assert said.count("held-out cells: balanced accuracy") == 1
    assert said.count("deeplift: 6 pairs of test cells") == 1
    assert said.count("pruning: area against random") == said.count("report:") == 1
    return folder


def line(command: str, cells: Path, folder: Path, *more: str) -> list[str]:
    """Words of a command in two processes, later ones win."""
    given = (*QUICK, "trainer=ddp_cpu", "pruning.batch_tokens=200", *more)
    return [command, *words(cells, folder, *given)]


def unpruned(studied: Path, folder: Path) -> Path:
    """A copy of a run that has yet to be pruned."""
    made = shutil.ignore_patterns("curves*.parquet", "summary.parquet")
    shutil.copytree(studied, folder, ignore=made)
    stages = (studied / "progress.jsonl").read_text().splitlines(keepends=True)
    kept = [stage for stage in stages if json.loads(stage)["stage"] in ("train", "attribute")]
    (folder / "progress.jsonl").write_text("".join(kept))
    return folder


def pruned(folder: Path) -> dict[str, bytes]:
    """The tables of a pruning."""
    found = contents(folder / "pruning")
    assert set(found) >= {f"{name}.parquet" for name in TABLES}
    return found


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], int]:
    """Runs a line for several processes in this one, with the same key of its stages."""

    def run_alone(words: list[str]) -> int:
        with monkeypatch.context() as patched:
            patched.setattr(Company, "begin", lambda self, task: None)
            return main(words)

    return run_alone


def started(command: list[object], **more: str) -> subprocess.Popen[str]:
    """A program with one thread a process."""
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=environment() | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_study_in_two_processes_leaves_one_run(
    cells: Path, studied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [stage["stage"] for stage in progress(studied)] == STAGES
    assert (studied / "report.html").is_file()
    left = {f.name for f in studied.rglob("*") if f.name.startswith(".") or f.suffix == ".tmp"}
    assert not left
    assert len((studied / "training.csv").read_text().splitlines()) == 1 + 2
    assert load_checkpoint(studied).model is not None
    before = progress(studied)
    assert main(line("study", cells, studied)) == 0  # there is nothing to start others for
    assert capsys.readouterr().out.count("done before, skipped") == 4
    assert progress(studied) == before


def test_curves_are_those_of_one_process_to_the_byte(
    cells: Path, studied: Path, tmp_path: Path, alone: Callable[[list[str]], int]
) -> None:
    folder = unpruned(studied, tmp_path / "one")
    assert alone(line("prune", cells, folder)) == 0
    assert pruned(folder) == pruned(studied)


def test_pairs_by_their_own_scores_and_models_trained_again(
    cells: Path, studied: Path, tmp_path: Path, alone: Callable[[list[str]], int]
) -> None:
    one, two = unpruned(studied, tmp_path / "one"), unpruned(studied, tmp_path / "two")
    by_pair = ("pruning.rank_source=per_pair",)
    assert alone(line("prune", cells, one, *by_pair)) == 0
    said = run_ranks(2, *line("prune", cells, two, *by_pair, "pruning.retrain=[0.5]"))
    assert said.count("retraining 1 of 2") == said.count("retraining 2 of 2") == 1
    found = pruned(two)
    assert {name: found[name] for name in pruned(one)} == pruned(one)
    retrained = read(two, "pruning/retrained")
    assert retrained.groupby(["ranking", "ratio"]).ngroups == 4
    assert retrained["value"].notna().all()


def test_more_processes_than_pieces(
    cells: Path, studied: Path, tmp_path: Path, alone: Callable[[list[str]], int]
) -> None:
    three = tmp_path / "three"
    more = ("trainer.devices=3", f"checkpoint.path={best(studied)}", "pruning.batch_tokens=8192")
    for command in ("attribute", "prune"):
        run_ranks(3, *line(command, cells, three, *more))
    one = unpruned(three, tmp_path / "one")
    assert alone(line("prune", cells, one, *more)) == 0
    assert pruned(one) == pruned(three)


def best(folder: Path) -> str:
    """The best checkpoint of a run."""
    return str(folder / "checkpoints" / "best.ckpt")


@pytest.mark.parametrize(("n_pieces", "world"), [(7, 3), (2, 3), (0, 2), (4, 1)])
def test_every_piece_is_of_one_process(
    n_pieces: int, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = []
    for rank in range(world):
        monkeypatch.setattr(prune_progress, "rank_and_world", lambda r=rank: (r, world))
        given: list[int] = []
        share = Share(_Work(rank))  # type: ignore[arg-type]
        made = share.of(partial(given.extend, _Lazily(share, range(n_pieces))))
        shares.append(given)
        assert len(given) == n_pieces if rank == 0 else made is None
    assert sorted(shares[0]) == [*range(n_pieces)]
    own = shares[0][: len(range(0, n_pieces, world))]  # before it waits for the others
    every = [*own, *(piece for given in shares[1:] for piece in given)]
    assert sorted(every) == [*range(n_pieces)]


class _Work:
    """What a share asks for."""

    console = Console(quiet=True)

    def __init__(self, rank: int) -> None:
        self.is_main = rank == 0
        self.company = Company(Path(), self.is_main, lambda: None, several=False)


class _Lazily:
    """Asks for the pieces when it is iterated."""

    def __init__(self, share: Share, pieces: range) -> None:
        self.share, self.pieces = share, pieces

    def __iter__(self) -> Iterator[int]:
        yield from self.share(self.pieces)


# That of a user in another process: test_attributing.
@pytest.mark.parametrize(("rank", "kind", "code"), [(0, "user", 2), (1, "bug", 1)])
def test_a_failure_ends_all_with_its_exit_code(
    rank: int, kind: str, code: int, cells: Path, studied: Path, tmp_path: Path
) -> None:
    folder = unpruned(studied, tmp_path / "run")
    process = started([FAILING, *line("prune", cells, folder)], FAILS=str(rank), WITH=kind)
    # The pipes are closed when the last of the processes has ended.
    _, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, error
    said = {"user": "gradgene: error: here: no such thing", "bug": "ZeroDivisionError: a bug"}
    assert error.count(said[kind]) == 1, error
    assert ("Traceback" in error) == (kind == "bug")
    assert [stage["stage"] for stage in progress(folder)] == STAGES[:2]
    assert not (folder / ".failed.json").exists()


@pytest.mark.usefixtures("keyboard")
def test_ctrl_c_ends_all(cells: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = started(["-m", "gradgene", *line("study", cells, folder, "finetune.max_epochs=500")])
    until = time.monotonic() + PATIENCE_S
    while not (folder / "checkpoints" / "last.ckpt").is_file() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)  # only to the main process
    _, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, error
    assert error == "gradgene: interrupted; what was finished is kept, the same command resumes\n"


def test_torchrun(cells: Path, studied: Path, tmp_path: Path) -> None:
    """Processes that somebody else has started; the second time there is nothing to do."""
    folder = tmp_path / "run"
    more = (f"checkpoint.path={best(studied)}", "attribution.batch_tokens=auto")
    words_of = line("attribute", cells, folder, *more)
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone")
    said = run(*torchrun, "-m", "gradgene", *words_of)
    assert said.count("deeplift: 6 pairs of test cells") == 1
    assert said.count("MB are free to each of 2 processes") == 1
    assert [stage["stage"] for stage in progress(folder)] == ["attribute"]
    assert "done before, skipped" in run_ranks(2, *words_of)


def test_a_sweep_of_processes_that_python_starts(
    cells: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    more = (
        "trainer=ddp_spawn_cpu",
        "study.baseline=control,nobody",
        "hydra.sweep.subdir=${hydra:job.num}",
    )
    assert main([*line("train", cells, folder, *more), "-m"]) == 2
    said = capfd.readouterr()
    assert said.out.count("held-out cells: balanced accuracy") == 1
    assert said.err.count("'nobody'") >= 1 and "Traceback" not in said.err
    (done,) = folder.rglob("progress.jsonl")
    assert [stage["stage"] for stage in progress(done.parent)] == ["train"]
    assert not list(folder.rglob(".failed.json"))
