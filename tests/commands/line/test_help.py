"""Help that fits a screen, lists what there is, and is there at once."""

from __future__ import annotations

import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from gradgene.commands.config.groups import GROUPS, composed_groups, conf_dir, groups
from gradgene.commands.line.help import EXAMPLES
from gradgene.commands.line.options import read_line
from gradgene.commands.main import COMMANDS, main


def said(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    """What a line prints."""
    assert main([*line]) == 0
    return capsys.readouterr().out


def test_the_general_help_is_one_screen_for_a_newcomer(capsys):
    lines = said(capsys, "--help").splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 100
    listed = {words[0] for line in lines if (words := line.split())}
    assert set(COMMANDS) <= listed
    first = [line for line in lines if line.startswith("  gradgene ")]
    assert first[0].startswith("  gradgene study experiment=demo ")
    assert any("study --help" in line for line in first), "where to go next"


def test_every_command_of_the_help_can_be_read(capsys):
    """No example names an option that is refused."""
    assert main(["--help"]) == 0
    for example, _ in EXAMPLES:
        program, command, *words = example.split()
        assert program == "gradgene" and command in COMMANDS
        read_line(command, words)


def test_every_group_says_what_it_decides():
    missing = set(groups(conf_dir())) - set(GROUPS)
    assert not missing, f"say in GROUPS of commands/config/groups.py what {missing} decide"
    assert all(0 < len(line) < 80 for line in GROUPS.values())


def test_command_help_describes_every_leaf(gradgene, capsys):
    out = said(capsys, "study", "--help", "experiment=toy")
    for text in ("The first method.", "The second method.", "A toy.", "More about it."):
        assert text in out
    assert "@package" not in out
    assert f"attribution=  {GROUPS['attribution']}" in out.splitlines()


def test_command_help_shows_how_to_sweep_and_what_it_has_options_for(capsys):
    study, report = said(capsys, "study", "--help"), said(capsys, "report", "--help")
    assert "-m KEY=A,B GROUP=X,Y" in study and "--dry-run" in study and "--wandb" not in study
    assert "--wandb" in report and "--cfg" not in report and "GROUP=LEAF" not in report


def test_command_help_lists_the_groups_that_the_command_has(capsys):
    """A pretraining has no pairs, a study no settings of a pretraining; trainers both have.

    Groups that no command composes, such as launchers, belong to all.
    """
    listed, conf = {}, conf_dir()
    composed = {
        root: set(composed_groups(conf / f"{root}.yaml")) for root in ("config", "pretrain")
    }
    free = set(groups(conf)) - composed["config"] - composed["pretrain"]
    for command, root in (("study", "config"), ("pretrain", "pretrain")):
        lines = said(capsys, command, "--help").splitlines()
        listed[command] = {line.partition("=")[0] for line in lines if "=  " in line}
        defaults = OmegaConf.load(conf / f"{root}.yaml").defaults
        named = {key for entry in defaults if entry != "_self_" for key in entry}
        named = {key for key in named if not key.startswith("override ")}
        assert listed[command] == (named | free) & set(groups(conf))
    assert {"model", "trainer", "experiment"} <= listed["study"] & listed["pretrain"]
    assert listed["study"] - listed["pretrain"] >= {"attribution", "pairs", "pruning", "report"}
    assert listed["pretrain"] - listed["study"] == {"pretraining"}


def test_a_study_is_not_offered_the_leaves_of_a_pretraining(capsys):
    study, pretrain = said(capsys, "study", "--help"), said(capsys, "pretrain", "--help")
    for leaf in ("kang_pretrain", "kang_stream", "stream", "masked_tokens", "pretraining"):
        assert f"\n  {leaf} " not in study and f"\n  {leaf} " in pretrain
    for leaf in ("kang_ifnb", "h5ad", "masked_target", "early_stopping", "ig_steps"):
        assert f"\n  {leaf} " in study and f"\n  {leaf} " not in pretrain


def test_groups_that_nothing_composes_are_listed_by_being_there(conf, capsys):
    (conf / "sweep").mkdir()
    (conf / "sweep" / "seeds.yaml").write_text(
        "# @package _global_\n# Three seeds,\n# one after another.\n# More.\nhydra: {}\n"
    )
    (conf / "hydra" / "launcher").mkdir(parents=True)
    (conf / "hydra" / "launcher" / "slurm.yaml").write_text("# A cluster\n_target_: x\n")
    lines = said(capsys, "study", "--help").splitlines()
    at = lines.index(f"sweep=  {GROUPS['sweep']}")
    assert lines[at + 1] == "  seeds  Three seeds, one after another."
    at = lines.index(f"hydra/launcher=  {GROUPS['hydra/launcher']}")
    rows = {line.split()[0]: line for line in lines[at + 1 : at + 6]}
    assert [*rows] == ["basic", "joblib", "ray", "slurm", "submitit_local"]
    assert rows["slurm"].endswith(" A cluster") and "n_jobs=4" in rows["joblib"]
    assert any("hydra/launcher=joblib hydra.launcher.n_jobs=2" in line for line in lines)


def test_a_launcher_of_a_plugin_is_not_refused_for_having_no_file_of_ours(conf, gradgene, fake):
    (conf / "hydra" / "launcher").mkdir(parents=True)
    (conf / "hydra" / "launcher" / "slurm.yaml").write_text("# A cluster\n_target_: x\n")
    code, err = gradgene("study", "experiment=toy", "hydra/launcher=basic", "study.tagret=1")
    assert code == 2 and "study.tagret" in err and not fake.CALLS


@pytest.mark.parametrize("line", [["--help"], ["study", "--help"], ["completion", "bash"]])
def test_help_needs_neither_torch_nor_hydra(line):
    code = (
        f"import sys; from gradgene.commands.main import main; code = main({line});"
        "assert code == 0, code; assert not {'torch', 'hydra', 'pydantic', 'rich'} & {*sys.modules}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
