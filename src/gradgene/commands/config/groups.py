"""Where the configuration files are, and which groups and leaves they hold."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from gradgene.errors import ConfigError

__all__ = ["GROUPS", "PLUGINS", "composed_groups", "conf_dir", "describe", "groups", "groups_of"]

_PACKAGE = Path(__file__).resolve().parents[2]

#: What each group decides, in a line; tested to name every group under conf/.
GROUPS = {
    "experiment": "a whole study in one word: the facts of its contrast and its leaves",
    "data": "which cells are read, and what their values and columns mean",
    "model": "the size of the transformer, or the checkpoint to begin with",
    "checkpoint": "a model that is already trained, instead of training one",
    "finetune": "which weights learn, how fast and for how long",
    "pretraining": "the optimiser of a pretraining",
    "objective": "what training minimises",
    "attribution": "the method that scores genes",
    "baseline": "what a cell is compared with",
    "pairs": "which cells are compared with which",
    "ranking": "the order of genes that pruning tests",
    "flags": "genes marked in the table because they often mislead",
    "pruning": "how many genes are removed, in which order, and beside which controls",
    "evaluation": "how the scores are judged: known genes, faithfulness, sanity, stability",
    "trainer": "on what the work is done: CPU, GPU, several of them",
    "callbacks": "which checkpoints are kept, when training stops, what is shown meanwhile",
    "logger": "the experiment tracker",
    "report": "what is made of the results for reading",
    "sweep": "many runs in one word, with -m: which settings are varied, and over what",
    "hydra/launcher": "where the jobs of a sweep run: in turn, several at once, on a cluster",
}

#: Leaves of Hydra's own groups that come with it or its plug-ins, which are no files of ours.
PLUGINS = {
    "hydra/launcher": {
        "basic": "One job after the other: what is taken unless another is chosen.",
        "joblib": "Several at once on this machine, hydra.launcher.n_jobs=4; needs "
        "gradgene[sweeps].",
        "ray": "On the machines of a Ray cluster; needs gradgene[ray].",
        "submitit_local": "Each in a process of its own on this machine; needs gradgene[slurm].",
    }
}


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

    A leaf in a sub-directory is named as Hydra names it (`kang/small`); Hydra's own groups are the
    sub-directories of `hydra/` (`hydra/launcher`). A file whose name begins with _ is no choice:
    it holds what leaves beside it have in common.
    """
    found: dict[str, dict[str, Path]] = {}
    for directory in directories:
        for file in sorted(directory.rglob("*.yaml")):
            group, *rest = file.relative_to(directory).with_suffix("").parts
            if group == "hydra":  # its groups are nested: hydra/launcher
                group, rest = "/".join([group, *rest[:-1]]), rest[-1:]
            if rest and not rest[-1].startswith("_"):
                found.setdefault(group, {})["/".join(rest)] = file
    return dict(sorted(found.items()))


def composed_groups(root: Path) -> list[str]:
    """Names of the groups of which a root configuration composes a leaf, in its order."""
    defaults = (yaml.safe_load(root.read_text(encoding="utf-8")) or {}).get("defaults", ())
    names = [name for entry in defaults if isinstance(entry, dict) for name in entry]
    return [name for name in names if not name.startswith("override ")]


def groups_of(root: Path) -> dict[str, dict[str, Path]]:
    """The groups that a command with this root configuration has, experiments first.

    They are those that it composes, and those that no root does: sweeps and launchers. A leaf whose
    comment begins "For `gradgene pretrain`:" is a choice with that root alone, and a root that has
    such leaves of a group has no others of it. Nor are sweeps a choice that vary another root's
    groups.
    """
    found = groups(root.parent)
    mine = composed_groups(root)
    roots = sorted(root.parent.glob("*.yaml"))
    others = {name for other in roots for name in composed_groups(other)} - set(mine)
    first = [name for name in ("experiment", *mine) if name in found]
    names = [name for name in dict.fromkeys([*first, *found]) if name not in others]
    choices = {name: _choices(found[name], root.stem) for name in names}
    if "sweep" in choices:
        choices["sweep"] = {k: f for k, f in choices["sweep"].items() if not _varied(f) & others}
    return choices


def _varied(sweep: Path) -> set[str]:
    """First words of the keys that a sweep varies."""
    said = yaml.safe_load(sweep.read_text(encoding="utf-8")) or {}
    params = said.get("hydra", {}).get("sweeper", {}).get("params") or {}
    return {key.partition(".")[0] for key in params}


def _choices(leaves: dict[str, Path], root: str) -> dict[str, Path]:
    own = {leaf: re.match(r"For `gradgene (\w+)`:", describe(f)) for leaf, f in leaves.items()}
    mine = [leaf for leaf, match in own.items() if match and match[1] == root]
    return {leaf: leaves[leaf] for leaf in mine or (n for n, match in own.items() if not match)}


def describe(leaf: Path) -> str:
    """Return the first comment of a leaf file, to the end of a sentence: what the leaf is for."""
    said: list[str] = []
    for line in leaf.read_text(encoding="utf-8").splitlines():
        text = line.lstrip("# ").strip()
        if not line.startswith("#") or not text:
            if said:
                break
        elif not text.startswith("@package"):
            said.append(text)
            if text.endswith("."):
                break
    return " ".join(said)
