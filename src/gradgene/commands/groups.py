"""Where the configuration files are, and which groups and leaves they hold."""

from __future__ import annotations

from pathlib import Path

import yaml

from gradgene.errors import ConfigError

__all__ = ["composed_groups", "conf_dir", "describe", "groups"]

_PACKAGE = Path(__file__).resolve().parents[1]


def conf_dir() -> Path:
    """Return the absolute config directory: the wheel's `gradgene/conf`, else the repository's.

    An absolute path is given to Hydra because `pkg://` fails in an editable install, where the
    directory lies outside the package.
    """
    for place in (_PACKAGE / "conf", _PACKAGE.parents[1] / "conf"):
        if (place / "config.yaml").is_file():
            return place
    raise ConfigError(
        "the configuration files of gradgene are missing",
        where=str(_PACKAGE / "conf"),
        expected="a directory holding config.yaml",
        fix="install gradgene again",
    )


def groups(*directories: Path) -> dict[str, dict[str, Path]]:
    """Scan config directories for groups: `{group: {leaf: file}}`, both in alphabetical order.

    A leaf in a sub-directory is named as Hydra names it (`kang/small`).
    """
    found: dict[str, dict[str, Path]] = {}
    for directory in directories:
        for file in sorted(directory.rglob("*.yaml")):
            group, *rest = file.relative_to(directory).with_suffix("").parts
            if group == "hydra":  # its groups are nested: hydra/launcher
                group, rest = "/".join([group, *rest[:-1]]), rest[-1:]
            if rest:
                found.setdefault(group, {})["/".join(rest)] = file
    return dict(sorted(found.items()))


def composed_groups(root: Path) -> set[str]:
    """Names of the groups of which a root configuration composes a leaf."""
    defaults = yaml.safe_load(root.read_text(encoding="utf-8"))["defaults"]
    names = {name for entry in defaults if isinstance(entry, dict) for name in entry}
    return {name for name in names if not name.startswith("override ")}


def describe(leaf: Path) -> str:
    """Return the first comment line of a leaf file, which says what the leaf is for."""
    for line in leaf.read_text(encoding="utf-8").splitlines():
        text = line.lstrip("# ").strip()
        if line.startswith("#") and text and not text.startswith("@package"):
            return text
    return ""
