"""Every file under conf/ composes, and every key and value in it fits what it is meant for.

The list is scanned, so a new leaf is tested by being there.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gradgene.commands.config.binding import bind, missing_keys
from gradgene.commands.config.groups import conf_dir, describe, groups
from gradgene.commands.config.hydra_errors import Line
from gradgene.commands.config.targets import locate, parameters
from gradgene.errors import ConfigError

# A leaf may leave the facts of a study to the user.
STUDY = {
    "study.name": "dummy",
    "study.target": "disease",
    "study.input": "case",
    "study.baseline": "control",
}


def _conf() -> Path | None:
    try:
        return conf_dir()
    except ConfigError:
        return None


def _leaves() -> list[tuple[str, str, Path]]:
    conf = _conf()
    if conf is None:
        return []
    return [(g, leaf, file) for g, leaves in groups(conf).items() for leaf, file in leaves.items()]


LEAVES = [pytest.param(*leaf, id=f"{leaf[0]}={leaf[1]}") for leaf in _leaves()]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files must compose without anything set by the machine at hand."""
    monkeypatch.delenv("GRADGENE_SHARED", raising=False)


#: conf/<root>.yaml, and the groups whose every leaf fits both.
ROOTS = ("config", "pretrain")
SHARED = ("model", "trainer", "logger")


def composed(*overrides: str, root: str = "config") -> DictConfig:
    """Compose with these overrides and dummies for the facts of the study that are missing."""
    conf = _conf()
    assert conf is not None
    with initialize_config_dir(str(conf), version_base="1.3"):
        cfg = compose(root, overrides=list(overrides))
    for key in missing_keys(cfg):
        if key in STUDY:
            OmegaConf.update(cfg, key, STUDY[key])
    return cfg


@pytest.mark.parametrize(("group", "leaf", "file"), LEAVES)
def test_leaf_composes_and_binds(group: str, leaf: str, file: Path) -> None:
    """With every root that its group belongs to, if it is shared, otherwise with one of them."""
    refused = []
    for root in ROOTS:
        try:
            bind(composed(f"{group}={leaf}", root=root), missing_ok=True)
        except (ConfigError, HydraException, OmegaConfBaseException) as error:
            refused.append(f"{root}: {error}")
        else:
            if group not in SHARED:
                return
    assert not refused, refused


@pytest.mark.parametrize(("group", "leaf", "file"), LEAVES)
def test_leaf_says_what_it_is(group: str, leaf: str, file: Path) -> None:
    """The first comment of a file is what `gradgene study --help` prints."""
    assert describe(file), f"{file} should begin with a comment saying what it is for"


@pytest.mark.parametrize(("group", "leaf", "file"), LEAVES)
def test_target_only_in_leaves(group: str, leaf: str, file: Path) -> None:
    """An experiment chooses leaves and states facts; what to build belongs to a leaf."""
    if group == "experiment":
        assert "_target_" not in file.read_text(encoding="utf-8")


@pytest.mark.skipif(_conf() is None, reason="no conf/ yet")
@pytest.mark.parametrize("root", ROOTS)
def test_the_defaults_leave_only_study_facts_open(root: str) -> None:
    conf = _conf()
    assert conf is not None
    with initialize_config_dir(str(conf), version_base="1.3"):
        missing = missing_keys(compose(root))
    assert {key for key in missing if key.startswith("study.")} <= set(STUDY)


def _closed(section: object) -> bool:
    """Whether a section takes a fixed set of keys: no target in it passes `**keywords` on."""
    if not isinstance(section, DictConfig):
        return False
    if "_target_" not in section:
        return True
    takes = parameters(locate(section["_target_"], "section"))
    return all(p.kind is not p.VAR_KEYWORD for p in takes.values())


@pytest.mark.skipif(_conf() is None, reason="no conf/ yet")
@pytest.mark.parametrize("root", ROOTS)
def test_a_typo_in_any_section_is_an_error(root: str) -> None:
    """Not one section of the defaults accepts a key that nothing reads."""
    cfg = composed(root=root)
    for section in [str(k) for k, v in cfg.items() if _closed(v)]:
        typo = deepcopy(cfg)
        OmegaConf.update(typo, f"{section}.no_such_key", 1, force_add=True)
        with pytest.raises(ConfigError, match=f"{section}.*no_such_key"):
            bind(typo, missing_ok=True)


def test_leaves_of_your_own_may_begin_with_ours(tmp_path: Path) -> None:
    """A file in `--config-dir` names ours in its defaults and says what differs."""
    mine = {
        "data": "defaults: [h5ad, _self_]\npath: mine.h5ad\nphenotypes: [disease]\n",
        "attribution": "defaults: [_settings, _self_]\n"
        "method: {_target_: gradgene.attribution.RandomScores, seed: 3}\n",
    }
    for group, text in mine.items():
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text(text)
    facts = [f"{key}={value}" for key, value in STUDY.items()]
    line = Line(conf_dir(), ("data=mine", "attribution=mine", *facts), extra=tmp_path)
    cfg = line.compose(line.overrides)
    bind(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
    assert cfg.data.path == "mine.h5ad" and cfg.data.genes == composed().data.genes
    assert cfg.attribution.method == {"_target_": "gradgene.attribution.RandomScores", "seed": 3}


def test_the_experiment_of_a_pretraining_holds_out_what_its_study_does() -> None:
    """Otherwise the study would judge a model on donors it was pretrained on."""
    pretrain = composed("experiment=kang_pretrain", root="pretrain")
    study = composed("experiment=kang_ifnb")
    assert set(pretrain.data.holdout_donors) == set(study.data.holdout_donors)
    for key in ("path", "phenotypes", "genes", "gene_rule", "bin_edges", "values", "gene_key"):
        assert pretrain.data[key] == study.data[key], key
    assert pretrain.study.filters == study.study.filters
    assert pretrain.study.donor == study.study.donor
