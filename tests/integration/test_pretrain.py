"""`gradgene pretrain`: a run others can start from, and kill -9 loses nothing but time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from gradgene.checkpoints import load_checkpoint
from gradgene.commands.main import main
from gradgene.lit import PretrainingModule
from gradgene.lit.streaming import SeededTokens
from tests.forked import Forked
from tests.integration.tiny import contents, progress, words
from tests.planted import make_adata

WORDS = (
    "study.name=tiny study.donor=donor data.phenotypes=[disease,cell_type,sex] "
    "data.bin_edges=[0.1,4,5,6,7] data.holdout_donors=[d4,d5] data.validation=0.2 "
    "data.train_tokens=12 data.epochs=6 data.batch_tokens=300 data.fetch_cells=64 "
    "data.block_cells=4 model.dim=16 model.n_heads=2 model.hidden_dim=32 logger=none "
    "callbacks.last.every_n_steps=4 trainer.log_every_n_steps=1"
).split()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A glob of two files of 100 cells, with other orders of genes."""
    folder = tmp_path_factory.mktemp("shards")
    for i in range(2):
        adata = make_adata(100, 30, n_donors=6, seed=i)
        adata.obs_names = [f"{i}-{name}" for name in adata.obs_names]
        (adata[:, ::-1].copy() if i else adata).write_h5ad(folder / f"{i}.h5ad")
    return folder / "*.h5ad"


def line(shards: Path, folder: Path, *more: str) -> list[str]:
    """The words of the command; later ones win."""
    given = {word.partition("=")[0] for word in more}
    kept = [word for word in WORDS if word.partition("=")[0] not in given]
    return ["pretrain", *kept, f"data.path={shards}", f"paths.output_dir={folder}", *more]


def history(folder: Path) -> list[dict[str, Any]]:
    file = folder / "training.jsonl"
    return [json.loads(text) for text in file.read_text().splitlines()] if file.is_file() else []


@pytest.fixture(scope="module")
def finished(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a stop, not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(line(shards, folder)) == 0
    return folder


@pytest.mark.slow
def test_a_run_has_what_others_start_from(finished: Path) -> None:
    names = set(contents(finished))
    checkpoints = {f"checkpoints/{n}" for n in ("best.ckpt", "last.ckpt", "training.json")}
    hf = {f"checkpoints/hf/{n}" for n in ("config.json", "model.safetensors", "vocabulary.json")}
    files = "config.yaml provenance.json metrics.json progress.jsonl data_report.json".split()
    assert names >= {*checkpoints, *hf, *files, "training.jsonl"}
    assert not [name for name in names if name.rpartition("/")[2].startswith(".")]
    assert [stage["stage"] for stage in progress(finished)] == ["pretrain"]
    best, exported = (load_checkpoint(finished, kind) for kind in ("lightning", "folder"))
    assert best.trained_on == exported.trained_on == ("d0", "d1", "d2", "d3")
    assert exported.vocabulary.phenotypes == ("disease", "cell_type", "sex")
    for name, weight in best.model.state_dict().items():
        assert torch.equal(weight, exported.model.state_dict()[name])


@pytest.mark.slow
def test_metrics_are_of_the_best_validation(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    validations = [v for v in history(finished) if "val/loss" in v]
    assert len(validations) == 10  # trainer.val_check_interval=0.1
    best = min(validations, key=lambda v: v["val/loss"])
    assert metrics.pop("val/step") == best["step"]
    assert metrics == {k: v for k, v in best.items() if k.startswith("val/")}
    assert (
        torch.load(finished / "checkpoints/best.ckpt", weights_only=True)["global_step"]
        == (best["step"])
    )
    assert {"val/disease/accuracy", "val/bins/macro_f1", "val/bins/within_one"} <= set(metrics)
    provenance = json.loads((finished / "provenance.json").read_text())
    assert [Path(f["path"]).name for f in provenance["data"]] == ["0.h5ad", "1.h5ad"]
    assert provenance["checkpoint"]["sha256"]


@pytest.mark.slow
def test_kill_9_and_the_same_command_goes_on_at_the_step(
    shards: Path, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    n_lines = len(history(finished))
    program, shares = Path(__file__).with_name("killing_pretraining.py"), (0.3, 0.7)
    given = json.dumps(line(shards, folder))
    done = Forked(program, given, folder, *(share * n_lines for share in shares))
    assert done.wait() == 0, done.error[-3000:]
    said = json.loads(done.said.splitlines()[-1])
    assert said["finished_before_its_time"] is False
    assert said["step"] > 0
    assert history(folder) == history(finished)
    for name in ("best", "last"):
        found, expected = (
            torch.load(f / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"]
            for f in (folder, finished)
        )
        assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_the_same_command_again_does_nothing(shards: Path, finished: Path) -> None:
    before = contents(finished)
    assert main(line(shards, finished)) == 0
    after = contents(finished)
    assert {k: v for k, v in after.items() if k != "provenance.json"} == {
        k: v for k, v in before.items() if k != "provenance.json"
    }


@pytest.mark.slow
def test_other_settings_in_the_same_folder_are_refused(shards: Path, finished: Path, refused):
    assert "other settings" in refused(*line(shards, finished, "objective.gene_rate=0.3"))
    assert main([*line(shards, finished, "data.workers=1")]) == 0, "workers change no result"


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """`tokens`: more in a training batch are too many; `steps`: after so many comes Ctrl-C."""
    limits, step = {"tokens": 160, "steps": 1000}, PretrainingModule.training_step

    def stepping(module: PretrainingModule, batch: SeededTokens, batch_idx: int) -> torch.Tensor:
        if batch.tokens.input_ids_nt.numel() > limits["tokens"]:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        if batch_idx >= limits["steps"]:
            raise KeyboardInterrupt
        return step(module, batch, batch_idx)

    monkeypatch.setattr(PretrainingModule, "training_step", stepping)
    return limits


@pytest.mark.slow
def test_batches_that_do_not_fit_are_halved(
    shards: Path, tmp_path: Path, capsys, fits: dict[str, int], refused
) -> None:
    """Broken off it goes on with batches as small, though there is more memory by then."""
    words, half = line(shards, tmp_path, "data.epochs=2"), "data.batch_tokens=150"
    fits["steps"] = 20
    assert main(words) == 130
    told = " ".join(capsys.readouterr().out.split())
    assert told.count("data.batch_tokens=300 does not fit in memory: going on with " + half) == 1
    fits["tokens"] = 100
    assert "begin in another folder with data.batch_tokens=75 trainer.a" in refused(*words)
    fits |= {"tokens": 1000, "steps": 1000}
    assert main(words) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["train/batch_tokens"], metrics["train/accumulate_grad_batches"]) == (150, 2)
    steps = [v["step"] for v in history(tmp_path) if "train/loss" in v]
    assert steps == [*range(1, len(steps) + 1)] and history(tmp_path)[-1]["batch"] > 2 * 10
    notes = json.loads((tmp_path / "data_report.json").read_text())["notes"]
    assert any(half in note for note in notes)


def test_dry_run_writes_nothing(shards: Path, tmp_path: Path, capsys) -> None:
    assert main([*line(shards, tmp_path / "run"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"│ pretrain +│ to do +│ \d+ passes over \d+ cells", said), said
    assert (
        re.search(r"│ \d+ (s|min) +│ [\d.]+ (MB|GB) +│", said) and "held-out donors d4, d5" in said
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_sweep(shards: Path, tmp_path: Path, capsys) -> None:
    jobs = ("study.seed=0,1", "hydra.sweep.subdir=${study.seed}")
    assert main([*line(shards, tmp_path / "run", *jobs), "-m", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("│ to do") == 2
    wrong = ("study.seed=0,1", "pretraining.warmup_share=0,2")
    capsys.readouterr()
    assert main([*line(shards, tmp_path / "run", *wrong), "-m", "--dry-run"]) == 2
    said = capsys.readouterr()
    assert "warmup_share" in said.err and said.out.count("│ to do") == 2, "the others are told"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("objective=masked_target",), "masked_tokens"),
        (("objective.gene_rate=2",), "objective.gene_rate"),
        (("data.holdout_donors=[nobody]",), "nobody"),
        (("data.phenotypes=[diseases]",), "disease"),
        (("pretraining.learning_rte=1",), "learning_rate"),
        (("callbacks.last.every_n_steps=0",), "every_n_steps"),
        (("study.target=disease",), "study.target"),
        (("data.validation=0",), "data.validation"),
        (("trainer.max_epochs=3",), "data.epochs"),
    ],
)
def test_mistakes_are_one_line(words, told, shards, tmp_path, refused) -> None:
    assert told in refused(*line(shards, tmp_path / "run", *words))
    assert not list(tmp_path.glob("run/checkpoints/*.ckpt"))


def test_data_of_a_study_are_refused(cells_file: Path, tmp_path: Path, refused) -> None:
    words = [w for w in line(cells_file, tmp_path / "run") if not w.startswith("data.")]
    data = ("data=h5ad", f"data.path={cells_file}", "data.phenotypes=[disease]")
    error = refused(*words, *data)
    assert "study.target" in error and "this command" in error


@pytest.mark.parametrize(
    ("leaf", "told"), [("objective=masked_tokens", "objective"), ("data=stream", "data")]
)
def test_leaves_of_a_pretraining_are_refused_by_a_study(
    leaf: str, told: str, cells_file: Path, tmp_path: Path, refused
) -> None:
    study = [w for w in words(cells_file, tmp_path / "run") if "train_tokens" not in w]
    error = refused("train", *study, leaf)
    assert f"error: {told}: is for `gradgene pretrain`" in error
