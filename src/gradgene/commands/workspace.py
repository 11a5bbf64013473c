"""One run's folder: which stages are done, what they share, and where results go."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import DictConfig, OmegaConf

from gradgene.attribution import AttributionSettings
from gradgene.cells import resolve_path
from gradgene.checkpoints import LoadedModel, PretrainedModel, load_checkpoint, weights_file
from gradgene.commands.binding import bind, build
from gradgene.commands.facts import StudyFacts
from gradgene.commands.groups import conf_dir
from gradgene.commands.refusals import refuse_leak, refuse_unknown_labels
from gradgene.commands.run_folder import RunFolder, stamp
from gradgene.errors import CheckpointError, ConfigError, closest
from gradgene.lit import CellDataModule
from gradgene.provenance import provenance, settings_hash
from gradgene.seeding import seed_everything

__all__ = ["Workspace"]

#: What decides the result of each stage, besides the stages before it.
SECTIONS = {
    "train": ("study", "data", "model", "checkpoint", "finetune", "objective", "trainer"),
    "attribute": ("attribution", "baseline", "pairs", "ranking"),
    "prune": ("pruning", "ranking", "evaluation"),
}
#: Facts of a study that change no number of the trained model.
NOT_FOR_TRAINING = ("name", "compare", "match_on")


class Workspace(RunFolder):
    """The folder of one study and everything its stages share.

    Parameters
    ----------
    cfg
        The resolved, bound configuration.
    output_dir
        The folder; created here.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """

    METRICS: ClassVar = {
        "train": ("test/", "calibration/"),
        "attribute": ("pairs/", "attribution/"),
        "prune": ("pruning/", "recovery/"),
    }

    def __init__(self, cfg: DictConfig, output_dir: Path) -> None:
        super().__init__(cfg, output_dir)
        self.facts = StudyFacts(**_plain(cfg.study))
        self._check_match_on()
        self._check_trainer()
        self.settings: AttributionSettings = build(cfg.attribution)
        leaves = {leaf.method.name: leaf for leaf in map(self._compared, self.facts.compare)}
        leaves.pop(self.settings.method.name, None)
        self.compared = list(leaves.values())
        seed_everything(self.facts.seed)

    @property
    def attributions(self) -> list[AttributionSettings]:
        """The main attribution and then the compared ones."""
        return [self.settings, *self.compared]

    @property
    def checkpoint(self) -> Path:
        """The checkpoint in use: the one configured, or this run's best."""
        if self.cfg.checkpoint.path is not None:
            return Path(self.cfg.checkpoint.path).expanduser()
        return self.folder / "checkpoints" / "best.ckpt"

    @cached_property
    def data(self) -> CellDataModule:
        """The cells, read and split once; for a model from elsewhere, as it reads them."""
        module: CellDataModule = build(self.cfg.data)
        given = self.cfg.checkpoint.path is not None
        source, where = (self.loaded, "checkpoint.path") if given else (self.start, "model.path")
        if source is not None:
            module.use_tokenizer(source.tokenizer)
        with self.console.status("reading cells"):
            module.setup()
        if source is not None:
            refuse_leak(source, module, where)
            refuse_unknown_labels(source, module, where)
        return module

    @cached_property
    def start(self) -> LoadedModel | None:
        """The checkpoint that training begins with, on the CPU; None for random weights."""
        model = build(self.cfg.model)
        return model.load() if isinstance(model, PretrainedModel) else None

    @cached_property
    def loaded(self) -> LoadedModel:
        """The trained model, on the device of the trainer."""
        if self.cfg.checkpoint.path is None and not self.is_done("train"):
            raise CheckpointError(
                f"no trained model of this configuration in {self.folder}",
                where="checkpoint.path",
                fix="run `gradgene study` or `gradgene train` with the same settings first, or "
                "name a checkpoint with checkpoint.path=...",
            )
        loaded = load_checkpoint(self.checkpoint, self.cfg.checkpoint.kind)
        loaded.model.to(self.device)
        return loaded

    def key(self, stage: str) -> str:
        """Hash of all settings that decide the result of `stage`; see `SECTIONS`."""
        plain = _plain(self.cfg)
        study = {k: v for k, v in plain["study"].items() if k not in NOT_FOR_TRAINING}
        parts: list[Any] = [{**{s: plain.get(s) for s in SECTIONS["train"]}, "study": study}]
        parts.append(stamp(str(resolve_path(self.cfg.data.path))))
        parts += self._stamps("data.genes", "checkpoint.path")
        # Stopping early decides the result; how progress is shown does not.
        parts.append({k: v for k, v in plain["callbacks"].items() if k != "progress"})
        model = build(self.cfg.model)
        parts.append(stamp(str(model.file())) if isinstance(model, PretrainedModel) else None)
        if stage in ("attribute", "prune"):
            parts += [plain.get(s) for s in SECTIONS["attribute"]]
            parts += [plain["study"]["match_on"], [str(a) for a in self.compared]]
            parts += self._stamps("pairs.file")
        if stage == "prune":
            parts += [plain.get(s) for s in SECTIONS["prune"]]
            parts += self._stamps("ranking.file", "evaluation.known_genes")
        return settings_hash(parts)

    def _stamps(self, *keys: str) -> list[Any]:
        """Stamps of the files that these configuration keys name."""
        paths = [OmegaConf.select(self.cfg, key) for key in keys]
        return [stamp(path) if isinstance(path, str) else None for path in paths]

    def write_provenance(self) -> None:
        """Write `config.yaml` and `provenance.json`.

        Raises
        ------
        OutputError
            If the folder holds a training of another configuration; nothing is written then.
        """
        weights = weights_file(self.checkpoint) if self.checkpoint.exists() else None
        data = resolve_path(self.cfg.data.path)
        self.write_config(provenance(data, weights, self.key("prune"), self.device))

    def _check_match_on(self) -> None:
        """Only columns that are read can be matched on."""
        facts = self.facts
        read = dict.fromkeys([*self.cfg.data.phenotypes, *facts.filters])
        read.update({facts.donor: None} if facts.donor else {})
        for column in facts.match_on:
            if column not in read:
                raise ConfigError(
                    f"cannot match on {column!r}, which is not read",
                    where="study.match_on",
                    expected=f"one of {closest(column, read)}",
                    fix=f"add {column!r} to data.phenotypes",
                )

    def _check_trainer(self) -> None:
        """Refuse what would give wrong numbers rather than an error."""
        trainer = self.cfg.trainer
        if trainer.get("devices", 1) != 1:
            raise ConfigError(
                "several processes are not supported yet",
                where="trainer.devices",
                expected="1",
                found=str(trainer.devices),
            )
        if str(trainer.get("precision", "32-true")) in ("bf16-true", "16-true"):
            raise ConfigError(
                "half-precision weights are too coarse for finite differences",
                where="trainer.precision",
                expected="32-true, or bf16-mixed for training only",
                found=str(trainer.precision),
            )

    def _compared(self, name: str) -> AttributionSettings:
        file = conf_dir() / "attribution" / f"{name}.yaml"
        if not file.is_file():
            leaves = [f.stem for f in file.parent.glob("*.yaml")]
            raise ConfigError(
                f"no attribution {name!r}",
                where="study.compare",
                expected=f"one of {closest(name, leaves)}",
            )
        node = OmegaConf.create({"attribution": OmegaConf.load(file)})
        bind(node)
        # Only the method differs: side by side they must explain the same scalar.
        return replace(self.settings, method=build(node.attribution).method)


def _plain(cfg: Any) -> Any:
    return OmegaConf.to_container(cfg, resolve=True)
