"""One run's folder: which stages are done, what they share, and where results go."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import DictConfig, OmegaConf
from rich.markup import escape

from gradgene.attribution import AttributionSettings
from gradgene.cells import resolve_paths
from gradgene.checkpoints import (
    CheckpointSource,
    LoadedModel,
    PretrainedModel,
    load_checkpoint,
    weights_file,
)
from gradgene.commands.config.binding import bind, build
from gradgene.commands.config.facts import StudyFacts
from gradgene.commands.config.groups import conf_dir, groups
from gradgene.commands.run.folder import RunFolder, deciding
from gradgene.commands.run.refusals import (
    refuse_leak,
    refuse_same_token,
    refuse_unknown_labels,
    unknown_labels,
)
from gradgene.commands.run.stage_cache import Entry, StageCache
from gradgene.commands.run.stage_files import (
    contents_of_model,
    refuse_emptied,
    shared_stage,
    with_contents,
)
from gradgene.errors import CheckpointError, ConfigError, closest
from gradgene.genes import default_importance
from gradgene.lit import CellDataModule, MaskedTarget
from gradgene.pairs import BaselineStrategy
from gradgene.provenance import provenance, settings_hash
from gradgene.seeding import seed_everything

__all__ = ["Workspace"]

#: What decides the result of each stage, besides the stages before it.
SECTIONS = {
    "train": ("study", "data", "model", "checkpoint", "finetune", "objective", "trainer"),
    "attribute": ("attribution", "baseline", "pairs", "flags"),
    "prune": ("pruning", "ranking"),
    "evaluate": ("evaluation",),
}
#: Tokens a batch of pairs before any are chosen by memory.
BATCH_TOKENS = 8192
#: Facts of a study that change no number of the trained model.
NOT_FOR_TRAINING = ("name", "compare", "match_on", "by", "batch")


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
        "train": ("train/", "val/", "test/", "calibration/"),
        "attribute": ("pairs/", "attribution/"),
        "prune": ("pruning/",),
        "evaluate": (
            *("recovery/", "effects/", "faithfulness/", "sanity/", "stability/"),
            *("agreement/", "interactions/"),
        ),
    }

    def __init__(self, cfg: DictConfig, output_dir: Path) -> None:
        super().__init__(cfg, output_dir)
        self.facts = StudyFacts(**_plain(cfg.study))
        self._check_columns()
        self._check_trainer()
        self._check_leaves()
        self.settings: AttributionSettings = build(cfg.attribution)
        named = [self.attribution_leaf(name, "study.compare") for name in self.facts.compare]
        leaves = {leaf.method.name: leaf for leaf in named}
        leaves.pop(self.settings.method.name, None)
        self.compared = list(leaves.values())
        self.chosen_tokens: dict[str, int] = {}
        seed_everything(self.facts.seed)

    @property
    def attributions(self) -> list[AttributionSettings]:
        """The main attribution and then the compared ones."""
        return [self.settings, *self.compared]

    def batch_tokens(self, settings: AttributionSettings) -> int:
        """Padded tokens a batch; for "auto" what was chosen here by memory, noted in `plan.json`.

        8192 where none was yet.
        """
        if settings.batch_tokens != "auto":
            return settings.batch_tokens
        name, file = settings.method.name, self.folder / "attributions" / "plan.json"
        if name not in self.chosen_tokens and file.is_file():
            planned = json.loads(file.read_text()).get(name, {}).get("test", {})
            self.chosen_tokens[name] = int(planned.get("batch_tokens", BATCH_TOKENS))
        return self.chosen_tokens.get(name, BATCH_TOKENS)

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
            if given:
                refuse_unknown_labels(source, module, where)
            else:
                self._add_labels(module)
        return module

    def _add_labels(self, data: CellDataModule) -> None:
        """Give tokens to labels that the model to begin with has not met, and note it."""
        vocabulary = data.tokenizer.vocabulary
        new = unknown_labels(vocabulary, data)
        if not new:
            return
        # The contrast gives its name to a token that the cells spell in several ways.
        contrast = {self.facts.target: (self.facts.input, self.facts.baseline)}
        grown = vocabulary.grown(new).spelled_as(contrast)
        data.tokenizer = replace(data.tokenizer, vocabulary=grown)
        said = "; ".join(f"{category}: {', '.join(labels)}" for category, labels in new.items())
        assert data.cells is not None  # set up just now
        note = f"Labels new to the pretrained model, which learns them from scratch: {said}."
        data.cells = replace(data.cells, notes=(*data.cells.notes, note))

    @cached_property
    def start(self) -> LoadedModel | None:
        """The checkpoint that training begins with, on the CPU; None for random weights."""
        model = build(self.cfg.model)
        return self._spelled(model.load()) if isinstance(model, PretrainedModel) else None

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
        source: CheckpointSource = build(self.cfg.checkpoint)
        loaded = self._spelled(source.load()) if source.path else load_checkpoint(self.checkpoint)
        loaded.model.to(self.device)
        return loaded

    def _spelled(self, loaded: LoadedModel) -> LoadedModel:
        """With the labels of the contrast as the study spells them."""
        target, contrast = self.facts.target, (self.facts.input, self.facts.baseline)
        refuse_same_token(loaded.vocabulary, target, *contrast)
        return loaded.spelled_as({target: contrast})

    def key(self, stage: str) -> str:
        """Hash of all settings that decide the result of `stage`; see `SECTIONS`.

        Files stand for what they hold: where they are and when they were written does not matter.
        """
        plain = with_contents(self.cfg, self.cache.contents)
        plain["trainer"] = deciding(plain["trainer"])
        study = {k: v for k, v in plain["study"].items() if k not in NOT_FOR_TRAINING}
        batch = plain["data"].pop("batch", None)  # no model sees it
        parts: list[Any] = [{**{s: plain.get(s) for s in SECTIONS["train"]}, "study": study}]
        # Stopping early decides the result; how progress is shown does not.
        parts.append({k: v for k, v in plain["callbacks"].items() if k != "progress"})
        if stage != "train":
            plain["attribution"].pop("keep_every_s", None)  # how often, not what
            parts += [plain.get(s) for s in SECTIONS["attribute"]]
            # Which ranking the study is about decides what is pruned by, not what is attributed.
            parts.append({k: v for k, v in plain["ranking"].items() if k not in ("kind", "file")})
            compared = [a.deciding() for a in self.compared]
            parts += [plain["study"]["match_on"], batch, compared]
            baseline: BaselineStrategy = build(self.cfg.baseline)
            parts.append(default_importance(self.settings.method.name, baseline.name))
        if stage in ("prune", "evaluate"):
            parts += [plain.get(s) for s in SECTIONS["prune"]]
        if stage == "evaluate":
            parts += [plain.get(s) for s in SECTIONS["evaluate"]]
            also = (plain["evaluation"].get("faithfulness") or {}).get("also") or ()
            leaves = [self.attribution_leaf(name, "evaluation.faithfulness.also") for name in also]
            parts += [leaf.deciding() for leaf in leaves]
        return settings_hash(parts)

    @cached_property
    def cache(self) -> StageCache:
        """What this and other runs keep for each other."""
        folder = self.cfg.paths.get("cache")
        where = Path(folder).expanduser() if folder else None
        return StageCache(where, lambda said: self.console.print(f"[yellow]{escape(said)}[/]"))

    def weights_hash(self) -> str | None:
        """What the checkpoint in use holds; None where there is none yet, here or in the cache."""
        if self.cfg.checkpoint.path is None and not self.is_done("train"):
            found = self.cache.find(self.address("train"))
            return None if found is None else found.hashes.get("checkpoints/best.ckpt")
        if self.cfg.checkpoint.path is None:
            return self.cache.contents.of(self.checkpoint)
        return contents_of_model(self.checkpoint, self.cfg.checkpoint.kind, self.cache.contents)

    def address(self, stage: str) -> str:
        """Where the cache keeps a stage with the present settings and checkpoint."""
        # How many cells there are in a step hangs on the number of processes, which may be "all".
        made_by = self.n_processes if stage == "train" else self.weights_hash()
        return self.cache.address(stage, self.key(stage), made_by, self.device)

    def shared_as(self, stage: str) -> str | None:
        """What this stage is called in the cache by all runs that share it; None without a cache.

        Before there is a model it is the name for all runs that would train the same.
        """
        return self.address(stage) if self.cache.folder is not None else None

    def in_cache(self, stage: str) -> bool:
        """Whether this stage need not be done, because another run has done it."""
        if stage != "train" and self.weights_hash() is None:
            return False
        return self.cache.find(self.address(stage)) is not None

    def cached(self, stage: str) -> AbstractContextManager[Entry | None]:
        """Around the work of a stage: takes it from the cache, or keeps it there; see `RunFolder`.

        Without a checkpoint only training can be shared: the work says what is missing.
        """
        if stage != "train" and self.weights_hash() is None:
            return nullcontext()
        return shared_stage(self, self.cache, stage, self.address(stage))

    def fetch_before(self, stage: str) -> None:
        """Take from the cache what `stage` stands on, from the last stage that is done here on.

        Nothing where the stage itself is done: to do an earlier one again would undo it.
        """
        missing: list[str] = []
        order = [*self.METRICS]
        for one in reversed(order[: order.index(stage) + 1]):
            if self.is_done(one):
                break
            if one != "train" or self.cfg.checkpoint.path is None:
                missing.append(one)
        for one in reversed(missing[1:]) if self.is_main else ():
            if not self.in_cache(one):
                return
            self.write_provenance()  # trackers read the configuration beside what they log
            self.stage(one, refuse_emptied)

    def pooling_key(self, settings: AttributionSettings) -> str:
        """Hash of what scores must have in common to be pooled over runs: not model and donors."""
        plain = _plain(self.cfg)
        study = {k: v for k, v in plain["study"].items() if k not in (*NOT_FOR_TRAINING, "seed")}
        pairs = {k: v for k, v in plain["pairs"].items() if k != "seed"}
        parts = [study, plain["study"]["match_on"], pairs, plain["baseline"]]
        parts.append(settings.deciding(save="table"))
        return settings_hash([*parts, plain["ranking"].get("importance")])

    def write_provenance(self) -> None:
        """Write `config.yaml` and `provenance.json`.

        Raises
        ------
        OutputError
            If the folder holds a training of another configuration; nothing is written then.
        """
        if not self.is_main:
            return
        weights = weights_file(self.checkpoint) if self.checkpoint.exists() else None
        facts = provenance(None, weights, self.key("evaluate"), self.device)
        self.write_config({**facts, "data": self.data_facts})

    @cached_property
    def data_facts(self) -> Any:
        """Path and hash of the data file or store; of several, a list of them."""
        files = resolve_paths(self.cfg.data.path)
        facts = [{"path": str(f), "sha256": self.cache.contents.of(f)} for f in files]
        return facts[0] if len(facts) == 1 else facts

    def dataset(self) -> dict[str, Any]:
        """`name` of the data's files, `sha256` or `stamps`, `n_cells` and `n_genes`."""
        facts, cells = self.data_facts, self.data.cells
        assert cells is not None  # set up by the workspace
        one = isinstance(facts, dict)
        files = [facts] if one else facts
        return {
            "name": ", ".join(Path(file["path"]).name for file in files),
            **({"sha256": facts["sha256"]} if one else {"stamps": settings_hash(facts)}),
            "n_cells": len(cells),
            "n_genes": len(self.data.tokenizer.vocabulary.genes),
        }

    def _check_columns(self) -> None:
        """Only columns that are read can be matched on or part the tables."""
        facts = self.facts
        read = dict.fromkeys([*self.cfg.data.phenotypes, *facts.filters])
        read.update({column: None for column in (facts.donor, facts.batch) if column})
        asked = [("study.match_on", column) for column in facts.match_on]
        by = OmegaConf.select(self.cfg, "ranking.by")
        asked += [("ranking.by", by)] if by is not None else []
        for where, column in asked:
            if column not in read:
                what = "matched on" if where == "study.match_on" else "given tables of its own"
                raise ConfigError(
                    f"{column!r} cannot be {what}, because it is not read",
                    where=where,
                    expected=f"one of {closest(column, read)}",
                    fix=f"add {column!r} to data.phenotypes",
                )

    def _check_trainer(self) -> None:
        """Refuse what would give wrong numbers rather than an error."""
        trainer = self.cfg.trainer
        if str(trainer.get("precision", "32-true")) in ("bf16-true", "16-true"):
            raise ConfigError(
                "half-precision weights are too coarse for finite differences",
                where="trainer.precision",
                expected="32-true, or bf16-mixed for training only",
                found=str(trainer.precision),
            )
        if trainer.get("precision") == "16-mixed" and trainer.accelerator == "cpu":
            # Lightning would warn and take bf16-mixed.
            raise ConfigError(
                "CPUs have no mixed float16",
                where="trainer.precision",
                expected="32-true or bf16-mixed on a CPU",
                found="16-mixed",
            )

    def _check_leaves(self) -> None:
        """Leaves of a pretraining are in the same groups, and bind as well."""
        for section, wanted in (("data", CellDataModule), ("objective", MaskedTarget)):
            if not isinstance(build(self.cfg[section]), wanted):
                raise ConfigError(
                    "is for `gradgene pretrain`",
                    where=section,
                    expected=f"a leaf of {wanted.__name__}",
                    found=str(self.cfg[section]["_target_"]),
                )

    def attribution_leaf(self, name: str, where: str) -> AttributionSettings:
        """The attribution of the study by the method of another leaf.

        Raises
        ------
        ConfigError
            Naming the key `where`, if there is no such leaf.
        """
        leaves = groups(conf_dir())["attribution"]
        if name not in leaves:
            raise ConfigError(
                f"no attribution {name!r}",
                where=where,
                expected=f"one of {closest(name, leaves)}",
            )
        # Only the method differs: side by side they must explain the same scalar.
        method = OmegaConf.load(leaves[name]).method
        node = OmegaConf.create({"attribution": {**self.cfg.attribution, "method": method}})
        bind(node)
        made: AttributionSettings = build(node.attribution)
        return made


def _plain(cfg: Any) -> Any:
    return OmegaConf.to_container(cfg, resolve=True)
