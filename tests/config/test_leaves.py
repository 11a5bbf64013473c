"""Every file under conf/ composes, and every key and value in it fits what it is meant for.

The list is scanned, so a new leaf is tested by being there.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from gradgene.commands.binding import bind, missing_keys
from gradgene.commands.groups import conf_dir, describe, groups
from gradgene.commands.targets import locate, parameters
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


def composed(*overrides: str) -> DictConfig:
    """Compose with these overrides and dummies for the facts of the study that are missing."""
    conf = _conf()
    assert conf is not None
    with initialize_config_dir(str(conf), version_base="1.3"):
        missing = missing_keys(compose("config", overrides=list(overrides)))
        dummies = [f"{key}={value}" for key, value in STUDY.items() if key in missing]
        return compose("config", overrides=[*overrides, *dummies])


@pytest.mark.parametrize(("group", "leaf", "file"), LEAVES)
def test_leaf_composes_and_binds(group: str, leaf: str, file: Path) -> None:
    bind(composed(f"{group}={leaf}"), missing_ok=True)


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
def test_the_defaults_leave_only_study_facts_open() -> None:
    conf = _conf()
    assert conf is not None
    with initialize_config_dir(str(conf), version_base="1.3"):
        missing = missing_keys(compose("config"))
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
def test_a_typo_in_any_section_is_an_error() -> None:
    """Not one section of the defaults accepts a key that nothing reads."""
    for section in [str(k) for k, v in composed().items() if _closed(v)]:
        with pytest.raises(ConfigError, match=f"{section}.*no_such_key"):
            bind(composed(f"+{section}.no_such_key=1"), missing_ok=True)
