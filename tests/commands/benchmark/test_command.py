"""The shell of benchmarks: settings, figures and what is written; nothing is measured here."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pickle
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from gradgene.commands.benchmark import command as benchmark
from gradgene.commands.benchmark.figures import (
    Figure,
    Findings,
    check_positive,
    machine,
    read_settings,
)
from gradgene.commands.main import main
from gradgene.errors import ConfigError


@dataclass(frozen=True)
class Toy:
    """Settings of no benchmark."""

    cells: int = 10
    name: str | None = None
    keep: bool = False
    output_dir: str = "out"
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(self, "cells")


def test_words_become_settings_of_the_right_type() -> None:
    assert read_settings(Toy, ["cells=1_000", "name=x", "keep=true"], "toy") == Toy(1000, "x", True)
    assert read_settings(Toy, [], "toy") == Toy()
    assert read_settings(Toy, ["name=null"], "toy").name is None


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("cell=3", "'cells'"),
        ("cells=many", "int"),
        ("cells=1.5", "int"),
        ("cells=0", "above 0"),
        ("keep=maybe", "bool"),
        ("name=[", "cannot be read"),
    ],
)
def test_a_wrong_word_is_one_line(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        read_settings(Toy, [word], "toy")
    assert "\n" not in str(error.value) and word.partition("=")[0] in str(error.value)


@pytest.mark.parametrize(
    ("value", "low", "high", "met", "goal"),
    [
        (3.0, 2.0, None, True, "≥ 2"),
        (1.0, 2.0, None, False, "≥ 2"),
        (1.0, None, 2.0, True, "≤ 2"),
        (3.0, None, 2.0, False, "≤ 2"),
        (3.0, None, None, None, ""),
        (None, 2.0, None, None, "≥ 2"),
        (float("nan"), 2.0, None, False, "≥ 2"),
        (0.0, 0.0, 0.0, True, "≥ 0 ≤ 0"),
    ],
)
def test_a_goal_is_met_or_not(
    value: float | None, low: float | None, high: float | None, met: bool | None, goal: str
) -> None:
    figure = Figure("part", "speed", value, at_least=low, at_most=high)
    assert figure.met is met and figure.goal == goal


def toy_findings() -> Findings:
    return Findings(
        (
            Figure("a", "speed", 12345.6, "/s", at_least=10),
            Figure("a", "ratio", None, note="no compiler"),
            Figure("b", "memory", 0.5, "MB", at_most=0.1),
        ),
        {"steps": pd.DataFrame({"step": [1, 2]})},
    )


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    facts = machine("cpu", 7)
    benchmark.write(tmp_path, {"benchmark": "toy", "machine": facts}, toy_findings())
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert found["machine"]["seed"] == 7 and found["machine"]["cores"] == os.cpu_count()
    assert {"threads", "device", "processor", "memory_gb"} <= set(found["machine"])
    assert "torch" in found["machine"]["packages"]
    assert [f["value"] for f in found["figures"]] == [12345.6, None, 0.5]
    assert [f["met"] for f in found["figures"]] == [True, None, False]
    table = pd.read_csv(tmp_path / "figures.csv")
    assert list(table["figure"]) == ["speed", "ratio", "memory"] and table["value"].isna()[1]
    assert list(pd.read_csv(tmp_path / "steps.csv")["step"]) == [1, 2]


def test_the_threads_asked_for_are_reported() -> None:
    assert machine("cpu", 0, threads=3)["threads"] == 3
    assert machine("cpu", 0)["threads"] == torch.get_num_threads()


def test_a_figure_is_found_by_part_and_name() -> None:
    assert toy_findings()["b", "memory"] == 0.5
    with pytest.raises(KeyError):
        toy_findings()["a", "ratio"]


def test_the_table_says_what_was_missed(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    Console(width=200).print(benchmark.show("toy", machine("cpu", 0), toy_findings()))
    lines = {line.split("│")[2].strip(): line for line in _rows(capsys.readouterr().out)}
    assert "12,346" in lines["speed"] and "yes" in lines["speed"]
    assert "no compiler" in lines["ratio"] and "no" in lines["memory"].split("│")[6]


def _rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("│")]


def test_every_setting_is_in_the_help_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--help"]) == 0
    text = capsys.readouterr().out.partition("\nexamples\n")[0]
    for name, module in benchmark.BENCHMARKS.items():
        part = text.partition(f"gradgene benchmark {name} [")[2].partition("gradgene benchmark ")[0]
        said = dict(word.split("=") for word in part.split() if word.count("=") == 1)
        for field in fields(importlib.import_module(module).Settings):
            value = yaml.safe_load(said[field.name])
            assert (tuple(value) if isinstance(value, list) else value) == field.default, field.name


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "'attribution', 'data', 'pruning', 'training', 'truth'"),
        (("truht",), "'truth'"),
        (("attribution", "dim=0"), "dim"),
        (("attribution", "baselines=100"), "inputs=64"),
        (("data", "training"), "needs the name of one benchmark"),
        (("data", "cell=3"), "'cells'"),
        (("training", "experiment=dmeo"), "'demo'"),
        (("training", "model=huge"), "'base'"),
        (("training", "device=tpu"), "cuda"),
        (("training", "batch_size=100000"), "batch_size"),
        (("data", "-m"), "takes no such option"),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", *words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and error.startswith("gradgene: error: ")


def test_every_benchmark_has_what_the_shell_calls() -> None:
    for name, module in benchmark.BENCHMARKS.items():
        path = Path(benchmark.__file__).with_name(module.rpartition(".")[2] + ".py")
        names = {getattr(n, "name", "") for n in ast.parse(path.read_text()).body}
        assert {"Settings", "measure"} <= names, name


def test_an_error_survives_the_way_back_from_a_process() -> None:
    error = ConfigError("failed", where="model.compile", fix="install a compiler")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
