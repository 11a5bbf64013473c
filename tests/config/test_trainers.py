"""The trainers that are built from their leaves, on a machine alone and under launchers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import lightning
import pytest
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from lightning_utilities.core.rank_zero import rank_zero_only as utilities_rank_zero_only
from omegaconf import OmegaConf

from gradgene.commands.config.binding import bind, build
from gradgene.commands.run.folder import deciding
from gradgene.commands.run.spawning import spawns
from gradgene.errors import ConfigError
from gradgene.lit import others_are_there
from gradgene.lit.distributed import whole
from tests.config.test_leaves import composed

#: The sixth process, second of the second of two nodes of three, as `srun` tells it.
SLURM = {
    "SLURM_JOB_NAME": "study",
    "SLURM_JOB_ID": "123456",
    "SLURM_NTASKS": "6",
    "SLURM_NTASKS_PER_NODE": "3",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "1",
    "SLURM_PROCID": "4",
    "SLURM_NODELIST": "node[7-8]",
}
#: The same as `torchrun` tells it.
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "WORLD_SIZE": "6",
    "LOCAL_WORLD_SIZE": "3",
    "GROUP_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
    "LOCAL_RANK": "1",
    "RANK": "4",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29400",
}
ON_GPUS = ("ddp", "fsdp", "deepspeed")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without a launcher's variables; a trainer notes its number for the whole process."""
    for name in {*SLURM, *TORCHRUN}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("SLURM_STEP_ID", raising=False)
    noted: tuple[Any, ...] = (rank_zero_only, utilities_rank_zero_only)
    before = [one.rank for one in noted]
    yield
    for one, rank in zip(noted, before, strict=True):
        one.rank = rank


def leaf(name: str) -> dict[str, object]:
    """The section `trainer` of a leaf, resolved."""
    cfg = composed(f"trainer={name}")
    bind(cfg, missing_ok=True)
    plain = OmegaConf.to_container(cfg.trainer, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def trainer(name: str) -> lightning.Trainer:
    """The trainer of a leaf."""
    made = build(composed(f"trainer={name}").trainer)(logger=False)
    assert isinstance(made, lightning.Trainer)
    return made


@pytest.mark.parametrize("name", ON_GPUS)
def test_alone_all_gpus_of_one_machine(name: str) -> None:
    assert (leaf(name)["devices"], leaf(name)["num_nodes"]) == (-1, 1)
    assert not others_are_there()


@pytest.mark.parametrize("variables", [SLURM, TORCHRUN], ids=["slurm", "torchrun"])
@pytest.mark.parametrize("name", [*ON_GPUS, "ddp_cpu"])
def test_what_was_started_is_what_there_is(
    name: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    assert (leaf(name)["devices"], leaf(name)["num_nodes"]) == (3, 2)
    assert others_are_there()


def test_a_process_knows_its_place_under_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in SLURM.items():
        monkeypatch.setenv(key, value)
    made = trainer("ddp_cpu")
    environment = made.strategy.cluster_environment  # type: ignore[attr-defined]
    assert isinstance(environment, SLURMEnvironment)
    assert (made.num_nodes, made.num_devices, made.world_size) == (2, 3, 6)
    assert (made.global_rank, made.local_rank, made.node_rank) == (4, 1, 1)
    assert environment.main_address == "node7"
    environment.validate_settings(made.num_devices, made.num_nodes)


def test_a_process_knows_its_place_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in TORCHRUN.items():
        monkeypatch.setenv(key, value)
    made = trainer("ddp_cpu")
    environment = made.strategy.cluster_environment  # type: ignore[attr-defined]
    assert isinstance(environment, TorchElasticEnvironment)
    assert (made.num_nodes, made.world_size, made.global_rank) == (2, 6, 4)
    environment.validate_settings(made.num_devices, made.num_nodes)


def test_processes_wait_for_longer_than_a_stage_takes() -> None:
    strategy = trainer("ddp_cpu").strategy
    assert isinstance(strategy, DDPStrategy) and strategy._timeout == timedelta(days=7)
    sharing = build(composed("trainer=fsdp").trainer.strategy)
    assert isinstance(sharing, FSDPStrategy) and sharing._timeout == timedelta(days=7)


@pytest.mark.parametrize("name", ["fsdp", "ddp"])
def test_prediction_leaves_every_process_the_whole_model(name: str) -> None:
    strategy = build(composed(f"trainer={name}").trainer).keywords["strategy"]
    assert type(whole(strategy)) is DDPStrategy
    assert (whole(strategy) is strategy) == (name == "ddp")
    assert whole("auto") == "auto"
    assert type(whole("fsdp")) is type(whole("deepspeed_stage_3")) is DDPStrategy


def test_deepspeed_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(ConfigError, match=r"gradgene\[deepspeed\]"):
        build(composed("trainer=deepspeed").trainer)


def test_how_processes_start_decides_no_result() -> None:
    assert deciding(leaf("ddp_cpu")) == deciding(leaf("ddp_spawn_cpu"))
    assert deciding(leaf("ddp_cpu")) != deciding(leaf("cpu"))


def test_python_starts_processes_only_where_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert spawns(composed("trainer=ddp_spawn_cpu"))
    assert not spawns(composed("trainer=ddp_cpu")) and not spawns(composed("trainer=cpu"))
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert not spawns(composed("trainer=ddp_spawn_cpu"))
