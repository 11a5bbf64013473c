"""Every leaf of conf/sweep makes the jobs it promises, and each job's configuration binds."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from gradgene.commands.config.binding import bind
from gradgene.commands.config.groups import PLUGINS, conf_dir, groups
from gradgene.commands.config.hydra_errors import Line
from gradgene.commands.sweep.plan import Plan, plan_sweep
from gradgene.errors import ConfigError

LEAVES = groups(conf_dir())["sweep"]
#: What the line has to say besides the sweep.
MORE = {"finetune_arms": ("experiment=demo", "model.path=runs/before"), "paper_contrasts": ()}
#: How many jobs; None where a search chooses them.
N_JOBS = {
    "finetune_arms": 4,
    "ig_steps": 6,
    "learning_rate": None,
    "methods_x_baselines": 24,
    "paper_contrasts": 3,
    "pruning_rankings": 7,
    "seeds": 3,
}


@lru_cache
def plan(name: str, *more: str) -> Plan:
    """The sweep of a leaf with what it needs besides; `more` comes last on the line."""
    words = MORE.get(name, ("experiment=demo",))
    return plan_sweep(Line(conf_dir(), (f"sweep={name}", *words, *more), multirun=True))


def test_the_table_is_of_the_leaves_that_there_are() -> None:
    assert set(N_JOBS) == set(LEAVES)


@pytest.mark.parametrize("name", LEAVES)
def test_every_job_of_a_leaf_composes_and_binds(name: str) -> None:
    found = plan(name)
    assert (found.jobs and len(found.jobs)) == N_JOBS[name]
    assert found.folder.is_absolute()


@pytest.mark.parametrize("name", [name for name, n in N_JOBS.items() if n])
def test_a_leaf_varies_what_it_says_and_the_line_has_the_last_word(name: str) -> None:
    params = yaml.safe_load(LEAVES[name].read_text())["hydra"]["sweeper"]["params"]
    key, values = next((k, str(v).split(",")) for k, v in params.items())
    jobs = plan(name).jobs or ()
    assert list(dict.fromkeys(words(job)[key] for job in jobs)) == values
    jobs = plan(name, f"{key}={values[1]},{values[0]}").jobs or ()
    assert list(dict.fromkeys(words(job)[key] for job in jobs)) == [values[1], values[0]]
    assert not any(word.startswith("hydra") for job in jobs for word in job)


def words(job: tuple[str, ...]) -> dict[str, str]:
    """key → value of a job."""
    return dict(word.partition("=")[::2] for word in job)


def test_two_sweeps_are_varied_together() -> None:
    line = Line(conf_dir(), ("experiment=demo", "sweep=[seeds,ig_steps]"), multirun=True)
    assert len(plan_sweep(line).jobs or ()) == 18


def test_published_contrasts_each_have_a_folder_and_take_others_in_their_place() -> None:
    assert plan("paper_contrasts").folder == Path("runs/contrasts").absolute()
    jobs = plan("paper_contrasts", "experiment=kang_ifnb,csle_pbmc").jobs or ()
    assert [words(job)["experiment"] for job in jobs] == ["kang_ifnb", "csle_pbmc"]


def test_the_folder_of_the_contrasts_is_that_of_the_line() -> None:
    assert plan("paper_contrasts", "paths.output_dir=elsewhere").folder == Path.cwd() / "elsewhere"


@pytest.mark.parametrize("logger", ["wandb", "csv"])
def test_the_contrasts_are_one_group_to_trackers(logger: str) -> None:
    words = ["experiment=kang_ifnb", f"logger={logger}"]
    for more, group in ([], "kang_ifnb"), (["sweep=paper_contrasts"], "contrasts"):
        cfg = Line(conf_dir()).compose([*words, *more])
        OmegaConf.set_struct(cfg, False)
        del cfg["hydra"]
        bind(cfg)
        assert cfg.sweep.group == group
        assert [leaf.get("group") for leaf in cfg.logger.values()] == (
            [group] if logger == "wandb" else [None]
        )


def test_the_objective_of_a_leaf_is_offered_and_that_of_a_line_insisted_on() -> None:
    found = plan("seeds")
    assert (found.facts.objective, found.insists) == ("pruning/area/lowest_first/main", False)
    assert found.facts.towards == "maximize"
    said = plan("seeds", "sweep.objective=pruning/area/highest_first/main")
    assert said.insists and said.facts.towards == "minimize"
    assert plan("ig_steps").facts.towards == "minimize"
    assert plan("learning_rate").insists, "a search cannot do without"


@pytest.mark.parametrize("name", PLUGINS["hydra/launcher"])
def test_launchers_that_the_help_names_are_there(name: str) -> None:
    """All but Ray, which has an environment of its own."""
    if name == "ray":
        pytest.importorskip("ray")
    cfg = Line(conf_dir()).compose(["experiment=demo", f"hydra/launcher={name}"])
    assert name.partition("_")[0] in str(cfg.hydra.launcher._target_).lower()


def test_the_search_goes_by_validation_cells() -> None:
    facts = plan("learning_rate").facts
    assert (facts.objective, facts.direction) == ("val/balanced_accuracy", "maximize")
    for judged in ("test/accuracy", "pruning/area/lowest_first/main"):
        with pytest.raises(ConfigError, match=r"sweep.objective.*held-out.*val/"):
            plan("learning_rate", f"sweep.objective={judged}")
    with pytest.raises(ConfigError, match=r"sweep.objective.*needs a figure"):
        plan("learning_rate", "sweep.objective=null")
    assert "attribution/x" in plan("learning_rate", "sweep.objective=attribution/x").caution
    assert not plan("learning_rate").caution
    with pytest.raises(ConfigError, match=r"sweep.direction.*'minimize'"):
        plan("learning_rate", "sweep.direction=down")


def test_slurm_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="no SLURM on this machine"):
        plan("seeds", "hydra/launcher=slurm")


def test_a_job_of_several_processes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"hydra.launcher.tasks_per_node.*one process"):
        plan("seeds", "hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2")
