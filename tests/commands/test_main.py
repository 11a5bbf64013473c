"""Words, exit codes and endings of the command line."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from gradgene import __version__
from gradgene.commands.line.options import read_line
from gradgene.commands.main import main
from gradgene.errors import ConfigError, PairError


def test_done_is_zero_and_the_command_gets_its_things(gradgene, fake):
    code, err = gradgene("study", "experiment=toy", "--dry-run", "study.seed=3")
    assert (code, err) == (0, "")
    ((cfg, options, output_dir),) = fake.CALLS
    assert cfg.attribution.what == "disease" and cfg.study.seed == 3
    assert output_dir == Path("runs/toy").resolve()
    assert options.dry_run and not options.wandb and options.command == "study"
    assert options.overrides == ("experiment=toy", "study.seed=3")


def test_a_flag_without_effect_is_refused(gradgene, fake):
    for line in (("study", "experiment=toy", "--wandb"), ("report", "runs/toy", "--dry-run")):
        code, err = gradgene(*line)
        assert code == 2 and "has no effect" in err
    assert fake.CALLS == []


def test_the_process_arguments_are_whole_inside_a_job_and_back_after(gradgene, fake, monkeypatch):
    seen = []
    monkeypatch.setattr(fake, "run", lambda *given: seen.append(sys.argv[1:]))
    before = list(sys.argv)
    gradgene("study", "experiment=toy", "--dry-run")
    assert seen == [["study", "--dry-run", "experiment=toy"]]
    assert sys.argv == before


def test_words_only_command_never_sees_hydra(gradgene, fake):
    code, _ = gradgene("report", "runs/demo", "name=x")
    assert code == 0
    ((_, options, _),) = fake.CALLS
    assert options.words == ("runs/demo",) and options.overrides == ("name=x",)


def test_a_directory_named_by_a_sweep_is_a_word(gradgene, fake, conf):
    (conf.parent / "runs" / "attribution=gim").mkdir(parents=True)
    gradgene("report", "runs/attribution=gim")
    assert fake.CALLS[0][1].words == ("runs/attribution=gim",)


def test_a_stray_word_is_explained(gradgene, fake):
    code, err = gradgene("study", "toy")
    assert code == 2 and "experiment=toy" in err and not fake.CALLS


@pytest.mark.parametrize(
    ("raises", "code", "says"),
    [
        (PairError("no pairs", where="study.match_on"), 2, "gradgene: error: study.match_on: no p"),
        (KeyboardInterrupt(), 130, "gradgene: interrupted; "),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 2, "runs/x: No space left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 2, "quota"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), 2, "/root/x: Permission"),
        (RuntimeError("PytorchStreamWriter failed writing file x"), 2, "cannot be written"),
        (ValueError("a bug"), 1, "Traceback"),
        (FileNotFoundError(errno.ENOENT, "gone", "x"), 1, "Traceback"),
        (SystemExit(3), 3, ""),
    ],
)
@pytest.mark.parametrize("line", [("study", "experiment=toy"), ("report", "x")])
def test_exit_codes(gradgene, fake, raises, code, says, line):
    fake.RAISES["all"] = raises
    found, err = gradgene(*line)
    assert found == code
    assert says in err
    if code in (2, 130):
        assert err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize("answer", [SystemExit(1), RuntimeError("cannot join thread"), OSError(5)])
def test_whatever_follows_ctrl_c_is_an_interruption(gradgene, fake, monkeypatch, answer):
    """Lightning leaves with an exit code, and its progress bar may fail while it is stopped."""

    def run(*given):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            try:
                raise ValueError("in between")
            except ValueError:
                raise answer  # noqa: B904

    monkeypatch.setattr(fake, "run", run)
    code, err = gradgene("study", "experiment=toy")
    assert code == 130 and err.count("\n") == 1 and err.startswith("gradgene: interrupted; ")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("study", "experiment=toy"), "what was finished is kept, the same command resumes"),
        (("benchmark", "data"), "the same command starts from the beginning"),
        (("report", "x"), "the same command starts from the beginning"),
    ],
)
def test_an_interruption_says_what_the_same_command_would_do(gradgene, fake, line, says):
    fake.RAISES["all"] = KeyboardInterrupt()
    assert gradgene(*line) == (130, f"gradgene: interrupted; {says}\n")


def test_an_unwritable_output_directory_is_one_line(gradgene, conf):
    (conf.parent / "runs").write_text("a file")
    code, err = gradgene("study", "experiment=toy")
    assert code == 2 and err.count("\n") == 1 and "runs" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("stduy",), "no such command; expected one of 'study'"),
        (("experiment=demo",), "write `gradgene study experiment=demo`"),
        (("study", "--dryrun"), "--dry-run"),
        (("study", "--cfg", "jobs"), "'job'"),
        (("study", "--config-dir"), "needs a value"),
        (("report", "-m"), "takes no such option"),
    ],
)
def test_mistakes_on_the_line(gradgene, words, says):
    code, err = gradgene(*words)
    assert code == 2 and says in err and err.count("\n") == 1


def test_flags_of_hydra_take_their_value_and_words_do_not(conf):
    line = read_line("study", ["-c", "job", "a=b", "--config-dir=x", "word", "~c", "--info"])
    assert line.flags == ("--cfg=job", "--config-dir=x", "--info=all")
    assert line.options.words == ("word",) and line.options.overrides == ("a=b", "~c")
    assert line.config_dir == "x" and not line.multirun
    with pytest.raises(ConfigError):
        read_line("study", ["--nonsense"])


def test_version_and_general_help(gradgene, capsys):
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
    assert main([]) == 0
    out = capsys.readouterr().out
    for text in ("fake study", "gradgene study experiment=demo", "gradgene study --help"):
        assert text in out


def test_python_m(conf):
    done = subprocess.run(
        [sys.executable, "-m", "gradgene", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"gradgene {__version__}"
