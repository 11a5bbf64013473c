"""What a shell offers when TAB is pressed, asked of the shells themselves."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gradgene.commands.completion.command import WORDS, script, words_of
from gradgene.commands.config.groups import PLUGINS, conf_dir, groups
from gradgene.commands.main import COMMANDS, main

#: Says what is offered at the end of a line, one a line.
ASK = {
    "bash": """source {script}; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _gradgene
(( ${{#COMPREPLY[@]}} )) && printf '%s\\n' "${{COMPREPLY[@]}}" || : """,
    # Completion of zsh runs in its line editor only: what it would be offered is printed instead.
    "zsh": """compadd() {{ [[ $1 == -S ]] && shift 2; shift; print -rl -- "$@" }}
compset() {{ PREFIX=${{PREFIX#*=}} }}; _files() {{ print -rl -- $PREFIX*(N) }}
source {script}; line='{line}'; words=("${{(@s: :)line}}"); CURRENT=$#words
PREFIX=${{words[CURRENT]}}; _gradgene""",
    "fish": "source {script}; complete -C '{line}'",
}
START = {"bash": ["bash", "--norc", "-c"], "zsh": ["zsh", "-f", "-c"], "fish": ["fish", "-N", "-c"]}
INSTALLED = [
    pytest.param(shell, marks=pytest.mark.skipif(not shutil.which(shell), reason=f"no {shell}"))
    for shell in START
]


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Ask a shell, in a folder with the file cells.h5ad and the folder runs/."""
    (tmp_path / "cells.h5ad").touch()
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)

    def ask(shell: str, line: str, first: str = "") -> list[str]:
        file = tmp_path / f".completion.{shell}"
        file.write_text(script(shell))
        code = first + ASK[shell].format(script=file, line=line)
        done = subprocess.run(
            [*START[shell], code], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stderr == ""
        last = line.rpartition(" ")[2]
        said = [one.partition("\t")[0] for one in done.stdout.splitlines()]
        # Zsh and fish are given more than what fits, and choose themselves.
        return said if shell == "bash" else [one for one in said if one.startswith(last)]

    return ask


@pytest.mark.parametrize("shell", INSTALLED)
def test_commands_options_groups_and_leaves(shell, offered):
    commands = {one.strip() for one in offered(shell, "gradgene ")}
    assert set(COMMANDS) <= commands
    assert [one.strip() for one in offered(shell, "gradgene stu")] == ["study"]
    assert "--dry-run" in {one.strip() for one in offered(shell, "gradgene study --")}
    assert {one.strip() for one in offered(shell, "gradgene data ")} >= {"inspect", "validate"}
    leaves = {one.strip().rpartition("=")[2] for one in offered(shell, "gradgene study baseline=")}
    assert leaves == set(groups(conf_dir())["baseline"])
    (leaf,) = offered(shell, "gradgene study attribution=int")
    assert leaf.strip().endswith("integrated_gradients")


@pytest.mark.parametrize("shell", INSTALLED)
def test_keys_and_paths(shell, offered):
    assert [*map(str.strip, offered(shell, "gradgene study study.ta"))] == ["study.target="]
    assert [*map(str.strip, offered(shell, "gradgene study pairs.max_p"))] == ["pairs.max_pairs="]
    assert [*map(str.strip, offered(shell, "gradgene pretrain data.fetch"))] == [
        "data.fetch_cells="
    ]
    found = [one.strip() for one in offered(shell, "gradgene report ru")]
    assert found == ["runs/" if shell != "zsh" else "runs"]


def test_bash_offers_paths_after_a_key_and_leaves_after_a_comma(offered):
    assert offered("bash", "gradgene study data.path=ce") == ["cells.h5ad "]
    assert offered("bash", "gradgene study paths.output_dir=r") == ["runs/"]
    assert offered("bash", "gradgene study data.path=runs/") == [], "an empty folder"
    assert offered("bash", "gradgene study -m baseline=empty,z") == ["empty,zero "]
    assert offered("bash", "gradgene study --cfg j") == ["job "]
    assert offered("bash", "gradgene study --config-dir r") == ["runs/"]
    assert offered("bash", "gradgene study nothing=") == []


def test_bash_that_does_not_part_words_at_equals_is_given_whole_words(offered):
    """Bash replaces what follows the last = or :, unless COMP_WORDBREAKS is set otherwise."""
    line = "gradgene study attribution=int"
    assert offered("bash", line) == ["integrated_gradients "]
    assert offered("bash", line, "COMP_WORDBREAKS=' '\n") == ["attribution=integrated_gradients "]


def test_paths_of_zsh_and_fish_follow_a_key(offered):
    for shell in ("zsh", "fish"):
        if shutil.which(shell):
            line = "gradgene study data.path=ce"
            file, code = Path(f".completion.{shell}"), ASK[shell]
            file.write_text(script(shell))
            said = subprocess.run(
                [*START[shell], code.format(script=file.resolve(), line=line)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            assert said.strip().endswith("cells.h5ad"), shell


def test_words_are_those_that_the_commands_know():
    """The script is made without loading the commands, so their actions are named twice."""
    tables = {"benchmark": "BENCHMARKS", "data": "ACTIONS", "query": "SETTINGS"}
    for command, table in tables.items():
        module = importlib.import_module(COMMANDS[command][0])
        assert sorted(getattr(module, table)) == sorted(WORDS[command])


def test_new_leaves_and_groups_are_completed_by_being_there(conf):
    (conf / "sweep").mkdir()
    (conf / "sweep" / "seeds.yaml").write_text("# @package _global_\n# Three seeds.\n")
    (conf / "hydra" / "launcher").mkdir(parents=True)
    (conf / "hydra" / "launcher" / "slurm.yaml").write_text("# A cluster.\n_target_: x\n")
    (conf / "attribution" / "_settings.yaml").write_text("# Of both methods.\nshared: 1\n")
    found = words_of("study")
    assert found.leaves is not None
    assert found.leaves["attribution"] == ("first", "second") and "attribution.shared" in found.keys
    assert found.leaves["sweep"] == ("seeds",)
    assert {*found.leaves["hydra/launcher"]} == {"slurm", *PLUGINS["hydra/launcher"]}
    assert "attribution.what" in found.keys and "study.filters" in found.keys
    assert not [key for key in found.keys if "_target_" in key]
    assert {k for k in found.keys if k.startswith("sweep")} == {
        "sweep.objective",
        "sweep.direction",
    }


def test_the_command_prints_the_script_and_nothing_else(capsys):
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == script("bash") + "\n"
    for line in ([], ["tcsh"], ["bash", "zsh"]):
        assert main(["completion", *line]) == 2
        said = capsys.readouterr()
        assert "needs the name of a shell" in said.err and said.out == ""
