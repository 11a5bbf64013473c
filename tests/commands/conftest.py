"""A small configuration and a fake command, so that the shell is tested without any science."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gradgene.commands import main
from gradgene.commands.config import groups

FILES = {
    "config.yaml": """
defaults:
  - _self_
  - attribution: first
  - experiment: null
  - sweep: null
  - override hydra/job_logging: none
  - override hydra/hydra_logging: none
study:
  name: ???
  target: ???
  input: ???
  baseline: ???
  match_on: []
  donor: null
  filters: {}
  seed: 0
  compare: []
paths:
  output_dir: runs/${study.name}
sweep: {objective: null, direction: null}
hydra:
  run: {dir: "${paths.output_dir}"}
  sweep: {dir: "${paths.output_dir}", subdir: "${hydra.job.override_dirname}"}
  output_subdir: null
  job:
    chdir: false
    config:
      override_dirname: {exclude_keys: [experiment, sweep, study.name, paths.output_dir]}
""",
    "attribution/first.yaml": """# The first method.
_target_: gradgene.errors.ConfigError
what: ${study.target}
where: somewhere
""",
    "attribution/second.yaml": """# @package attribution
# The second method.
_target_: gradgene.errors.PairError
what: second
""",
    "experiment/toy.yaml": """# @package _global_
# A toy.
study: {name: toy, target: disease, input: case, baseline: control}
""",
    "experiment/typo.yaml": """# @package _global_
study: {name: toy, tagret: disease, target: disease, input: case, baseline: control}
""",
    "experiment/lost.yaml": """# @package _global_
defaults:
  - override /attribution: frist
""",
    "experiment/broken.yaml": """# @package _global_
study: {name: ???, target: x}
""",
}
COMMAND = '''"""A fake command.

More about it.
"""
CALLS = []
RAISES = {}


def run(cfg, options, output_dir):
    CALLS.append((cfg, options, output_dir))
    error = RAISES.get(cfg.attribution.what) or RAISES.get("all")
    if error is not None:
        raise error


def call(options):
    CALLS.append((None, options, None))
    if "all" in RAISES:
        raise RAISES["all"]
'''


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config directory that the shell takes for gradgene's own; the test runs beside it."""
    directory = tmp_path / "conf"
    for name, text in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    monkeypatch.setattr(groups, "conf_dir", lambda: directory)
    monkeypatch.chdir(tmp_path)
    return directory


@pytest.fixture
def fake(conf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A module that stands in for every command; `CALLS` records, `RAISES` makes it fail."""
    (conf.parent / "fake_command.py").write_text(COMMAND)
    monkeypatch.syspath_prepend(str(conf.parent))
    for name in ("study", "report", "benchmark"):
        monkeypatch.setitem(main.COMMANDS, name, ("fake_command", f"fake {name}"))
    yield __import__("fake_command")
    sys.modules.pop("fake_command", None)


@pytest.fixture
def gradgene(fake: object, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a line; returns the exit code and what was written to stderr."""

    def call(*words: str) -> tuple[int, str]:
        code = main.main(list(words))
        return code, capsys.readouterr().err

    return call
