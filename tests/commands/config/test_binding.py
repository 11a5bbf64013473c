"""The binder: every key and value is checked against the signature it is meant for."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from omegaconf import OmegaConf

from gradgene.commands.config.binding import bind, build, missing_keys
from gradgene.commands.config.facts import Paths, StudyFacts
from gradgene.commands.config.targets import convert
from gradgene.errors import ConfigError

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]

STUDY: dict[str, Any] = {"name": "toy", "target": "disease", "input": "case", "baseline": "control"}


class Thing:
    """Something opaque that YAML cannot hold."""


class Model:
    """Stands for a class that a leaf names; defined as if it were part of gradgene."""

    def __init__(
        self,
        layers: int,
        rate: float = 0.1,
        ratios: tuple[float, ...] = (),
        kind: Literal["margin", "logit"] = "margin",
        where: Path | None = None,
        flag: bool = False,
        thing: Thing | None = None,
        unknown: Unknown = None,
        child: Any = None,
        names: dict[str, list[str]] | None = None,
    ) -> None:
        self.__dict__.update({k: v for k, v in locals().items() if k != "self"})


def anything(first: int, **more: object) -> dict[str, object]:
    """Stands for a function that passes keywords on."""
    return {"first": first, **more}


@pytest.fixture(autouse=True)
def fake_module(monkeypatch):
    """Offer the classes of this file as `gradgene.fake`, since only such targets are allowed."""
    module = ModuleType("gradgene.fake")
    for item in (Model, anything):
        monkeypatch.setattr(item, "__module__", "gradgene.fake")
        setattr(module, item.__name__, item)
    module.__dict__["subprocess"] = subprocess
    monkeypatch.setitem(sys.modules, "gradgene.fake", module)


def node(**values: object) -> dict[str, object]:
    """A leaf for `Model`."""
    return {"_target_": "gradgene.fake.Model", "layers": 2, **values}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"rate": 1},
        {"ratios": [0, 0.5]},
        {"kind": "logit"},
        {"where": "a/b"},
        {"thing": "anything goes for what YAML cannot hold"},
        {"unknown": 3},
        {"child": {"_target_": "gradgene.fake.Model", "layers": 1}},
        {"names": {"a": ["b"]}},
        {"_partial_": True},
    ],
)
def test_good_values_bind(values):
    bind(OmegaConf.create({"model": node(**values)}))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"layres": 3}, ["model.layres", "unknown key", "one of 'layers'"]),
        ({"layers": "3"}, ["model.layers", "expected int", "'3' (str)"]),
        ({"layers": True}, ["model.layers", "expected int"]),
        ({"layers": 1.5}, ["model.layers", "expected int"]),
        ({"layers": None}, ["model.layers", "expected int"]),
        ({"rate": "fast"}, ["model.rate", "expected float"]),
        ({"ratios": 0.5}, ["model.ratios", "tuple[float, ...]"]),
        ({"kind": "margn"}, ["model.kind", "'margin' or 'logit'", "'margn'"]),
        ({"flag": 1}, ["model.flag", "expected bool"]),
        ({"names": {"a": "b"}}, ["model.names", "dict[str, list[str]]"]),
        ({"child": {"_target_": "gradgene.fake.Model", "layres": 1}}, ["model.child.layres"]),
        ({"child": [{"_target_": "gradgene.fake.Model"}]}, ["model.child.0", "'layers'"]),
        ({"_args_": [1]}, ["model._args_"]),
    ],
)
def test_bad_values_are_named(values, says):
    with pytest.raises(ConfigError) as caught:
        bind(OmegaConf.create({"model": node(**values)}))
    for text in says:
        assert text in str(caught.value)


def test_missing_required_parameter_unless_partial():
    leaf = {"_target_": "gradgene.fake.Model"}
    with pytest.raises(ConfigError, match=r"needs a value for 'layers'.*model\.layers="):
        bind({"model": leaf})
    bind({"model": {**leaf, "_partial_": True}})
    assert build({**leaf}, layers=3).layers == 3


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "gradgenex.fake.Model",
        "gradgene.fake.subprocess.run",
        "gradgene.fake.Model.__init__",
        "gradgene.fake",
        "torch.load",
        3,
        None,
    ],
)
def test_refused_targets(target):
    with pytest.raises(ConfigError, match=r"logger\._target_"):
        bind({"logger": {"_target_": target}})


def test_a_target_that_is_not_there_names_the_closest():
    with pytest.raises(ConfigError, match=r"one of 'Model'|expected 'Model'"):
        bind({"model": {"_target_": "gradgene.fake.Modle"}})
    with pytest.raises(ConfigError, match="'ConfigError'"):
        bind({"model": {"_target_": "gradgene.errors.ConfigErorr", "what": "x"}})


def test_lightning_targets():
    bind(
        {
            "trainer": {
                "_target_": "lightning.Trainer",
                "max_epochs": 3,
                "accelerator": "cpu",
                "precision": "32-true",
                "gradient_clip_val": 1,
                "callbacks": [{"_target_": "lightning.pytorch.callbacks.ModelCheckpoint"}],
            },
        }
    )
    with pytest.raises(ConfigError, match=r"trainer\.max_epoch.*'max_epochs'"):
        bind({"trainer": {"_target_": "lightning.Trainer", "max_epoch": 3}})
    for foreign in ("torch.optim.AdamW", "lightning.LightningModule.load_from_checkpoint"):
        with pytest.raises(ConfigError, match="not allowed"):
            bind({"finetune": {"_target_": foreign, "_partial_": True}})


def test_groups_of_nodes_and_empty_entries():
    bind({"callbacks": {"best": node(), "stop": None}, "logger": None, "checkpoint": {}})
    with pytest.raises(ConfigError, match=r"callbacks\.best\.layres"):
        bind({"callbacks": {"best": node(layres=1)}})


def test_a_value_that_nothing_takes_is_an_error():
    with pytest.raises(ConfigError, match=r"modle\.layers.*unknown key"):
        bind({"model": node(), "modle": {"layers": 3}})
    with pytest.raises(ConfigError, match=r"modle: unknown key.*'model'"):
        bind({"model": node(), "modle": 3})


def test_keywords_that_are_passed_on_are_free():
    leaf = {"_target_": "gradgene.fake.anything", "first": 1, "more": [1]}
    bind({"logger": leaf})
    assert build(leaf) == {"first": 1, "more": [1]}


def test_missing_values_are_listed_unless_allowed():
    cfg = OmegaConf.create({"model": node(rate="???"), "study": {**STUDY, "target": "???"}})
    assert missing_keys(cfg) == ["model.rate", "study.target"]
    with pytest.raises(ConfigError, match=r"study\.target=\.\.\."):
        bind(cfg)
    bind(cfg, missing_ok=True)


def test_interpolations_are_followed_and_the_config_is_not_changed():
    cfg = OmegaConf.create({"study": STUDY, "model": node(layers="${study.name}")})
    with pytest.raises(ConfigError, match=r"model\.layers.*'toy'"):
        bind(cfg)
    assert OmegaConf.is_interpolation(cfg.model, "layers")


def test_build_converts_and_nests():
    cfg = OmegaConf.create(
        {"model": node(ratios=[0, 1], where="a", rate=1, child=[node(), None], names={"a": ["b"]})}
    )
    made = build(cfg.model, thing=Thing())
    assert made.ratios == (0.0, 1.0) and made.where == Path("a") and made.names == {"a": ["b"]}
    assert isinstance(made.thing, Thing)
    assert [type(c) for c in made.child] == [Model]
    assert build(None) is None
    both = build({"a": node(), "b": None, "c": node(_partial_=True)})
    assert list(both) == ["a", "c"] and isinstance(both["c"], functools.partial)
    assert both["c"](rate=2.0).rate == 2.0


def test_build_checks_too():
    cfg = OmegaConf.create({"model": node(layers="3")})
    with pytest.raises(ConfigError, match=r"model\.layers"):
        build(cfg.model)
    with pytest.raises(ConfigError, match="no _target_"):
        build({"a": node()}, layers=3)


def test_a_third_party_target_that_rejects_its_values_is_one_line():
    leaf = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "save_top_k": -7}
    with pytest.raises(ConfigError, match="rejects its values"):
        build(leaf)


def test_facts_are_bound():
    bind({"study": STUDY, "paths": {"output_dir": "runs/x"}})
    with pytest.raises(ConfigError, match=r"study\.tagret.*'target'"):
        bind({"study": {**STUDY, "tagret": "x"}})
    bind({"study": {"name": "atlas", "donor": "donor_id", "filters": {}, "seed": 1}})
    with pytest.raises(ConfigError, match=r"study\.donr.*'donor'"):
        bind({"study": {"name": "atlas", "donr": "donor_id"}})  # a pretraining has no target
    with pytest.raises(ConfigError, match=r"study\.match_on"):
        bind({"study": {**STUDY, "match_on": ["phase", "disease"]}})
    with pytest.raises(ConfigError, match=r"study\.baseline.*same label"):
        bind({"study": {**STUDY, "baseline": "case"}})
    with pytest.raises(ConfigError, match=r"study: is a section"):
        bind({"study": "toy"})
    with pytest.raises(ConfigError, match=r"paths\.output_dir"):
        bind({"paths": {}})


def test_facts_from_python():
    assert StudyFacts(**STUDY).filters == {} and Paths("x").output_dir == "x"
    assert StudyFacts(**STUDY).batch is None and StudyFacts(**STUDY, batch="lane").batch == "lane"
    with pytest.raises(ConfigError, match=r"study\.name: is empty"):
        StudyFacts(**{**STUDY, "name": " "})
    with pytest.raises(ConfigError, match=r"paths\.output_dir: is empty"):
        Paths("")


def test_an_annotation_without_a_hash_is_checked_all_the_same():
    assert convert(Annotated[int, {}], 3, "key") == 3
    with pytest.raises(ConfigError, match="wrong type"):
        convert(Annotated[int, {}], "three", "key")
