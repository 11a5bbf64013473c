"""Weights & Biases: how a run is opened, closed and sent.

Only this file and `wandb_*.py` beside it touch W&B. Everything works offline, nothing here ever
prompts, and no failure of the service stops a run: it becomes a warning in the log. (Inside these
files `wandb` is the installed package, not this module.)
"""

from __future__ import annotations

import configparser
import inspect
import logging
import netrc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import wandb

from gradgene.provenance import redacted
from gradgene.reports.run_files import RunFiles
from gradgene.reports.wandb_artifacts import KINDS, Piece, log_lineage
from gradgene.reports.wandb_content import STAGES, guarded, log_content

__all__ = [
    "INIT_KEYS",
    "finish",
    "log_run",
    "open_run",
    "quiet_environment",
    "send",
    "staged_in",
    "wandb_mode",
]

_log = logging.getLogger(__name__)
# Where W&B has served its API, newest name first; used only to look a machine up in netrc.
_HOSTS = ("api.forge.coreweave.com", "forge.coreweave.com", "api.wandb.ai")
#: What `wandb.init` takes, and so what a leaf of `logger` may say.
INIT_KEYS = frozenset(inspect.signature(wandb.init).parameters)


def wandb_mode() -> str:
    """Decide how Weights & Biases can run here without asking anybody anything.

    Returns
    -------
    str
        `online` only if credentials are configured: in the environment, in netrc or in W&B's
        settings file. Otherwise `offline`. `WANDB_MODE` of `disabled` or `offline` is respected,
        and `online` without credentials becomes `offline` with a warning in the log, because W&B
        would ask for a key. Neither the network nor W&B itself is consulted.
    """
    asked = os.environ.get("WANDB_MODE", "").strip().lower()
    if asked == "disabled":
        return "disabled"
    if asked in ("offline", "dryrun"):
        return "offline"
    settings = _settings_file()
    if not asked and settings.get("mode") in ("offline", "disabled"):
        return settings["mode"]
    if _has_credentials(settings):
        return "online"
    if asked in ("online", "run"):
        _log.warning("WANDB_MODE=%s, but no W&B API key is configured: logging offline", asked)
    return "offline"


def _has_credentials(settings: Mapping[str, str]) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    base = os.environ.get("WANDB_BASE_URL") or settings.get("base_url")
    hosts = (urlsplit(base).netloc,) if base else _HOSTS
    return bool(settings.get("api_key")) or _in_netrc(hosts)


def _settings_file() -> dict[str, str]:
    """W&B's own user settings, empty where there are none or they cannot be read."""
    folder = os.environ.get("WANDB_CONFIG_DIR") or os.path.expanduser("~/.config/wandb")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(Path(folder) / "settings", encoding="utf-8")
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        _log.warning("W&B settings cannot be read: %s", type(error).__name__)
    return dict(parser["default"]) if parser.has_section("default") else {}


def _in_netrc(hosts: tuple[str, ...]) -> bool:
    """Whether netrc has a password for one of the hosts."""
    named = os.environ.get("NETRC")
    # Unlike pathlib's, this `expanduser` does without a home, as some containers have none.
    for path in map(os.path.expanduser, [named] if named else ["~/.netrc", "~/_netrc"]):
        try:
            found = netrc.netrc(path)
        except FileNotFoundError:
            continue
        except (OSError, netrc.NetrcParseError) as error:
            # The message of a parse error may quote the file, and with it a password.
            _log.warning("%s cannot be read: %s", path, type(error).__name__)
            continue
        return any((found.authenticators(host) or ("", "", ""))[2] for host in hosts)
    return False


def quiet_environment(mode: str) -> None:
    """Set the process's environment so that W&B neither asks nor writes to the terminal.

    Parameters
    ----------
    mode
        What `wandb_mode` returned; becomes `WANDB_MODE`. Call this before W&B is started; the
        other settings are only defaults, whatever the user has set stays.
    """
    os.environ["WANDB_MODE"] = mode
    defaults = {
        "WANDB_SILENT": "true",
        "WANDB_QUIET": "true",
        # Captured console output would put progress bars into the run's log.
        "WANDB_CONSOLE": "off",
        "WANDB_DISABLE_CODE": "true",
        # The commit is in our own provenance; the address of a remote may hold a password.
        "WANDB_DISABLE_GIT": "true",
        # Crash reports are sent over the network, also offline.
        "WANDB_ERROR_REPORTING": "false",
        # Seconds until an unreachable server is given up; W&B's own default is 90.
        "WANDB_INIT_TIMEOUT": "30",
        # Seconds for the last uploads of a stage; the rest waits on disk for `wandb sync`.
        "WANDB_FINISH_TIMEOUT": "300",
        "WANDB_FINISH_TIMEOUT_RAISES": "true",
    }
    for key, value in defaults.items():
        os.environ.setdefault(key, value)


def open_run(folder: Path, **init: Any) -> Any:
    """Open a W&B run in a folder, offline where the server cannot be reached.

    Parameters
    ----------
    folder
        Where its files go, to `wandb/`.
    init
        What else `wandb.init` takes: project, group, name, config and so on.

    Returns
    -------
    The open run; None where W&B is disabled or cannot even write to disk.

    Notes
    -----
    A server that could not be reached is not asked again by this process nor by those it starts:
    `WANDB_MODE` remembers it. Other commands and other workers of a sweep find out by themselves.
    """
    mode, asked = wandb_mode(), init.pop("mode", None)
    if asked in ("disabled", "offline") and mode != "disabled":  # "online" needs a key all the same
        mode = str(asked)
    if mode == "disabled":
        return None
    quiet_environment(mode)
    (folder / "wandb").mkdir(parents=True, exist_ok=True)  # else wandb takes a temporary folder
    # W&B reads the environment only once a process, so the mode is said as well.
    start = partial(_started, dir=str(folder), **init)
    if mode == "online":
        try:
            return start(mode="online")
        except Exception as error:  # a service's failure, of whatever kind, must not cost a run
            _log.warning("W&B cannot be reached (%s): logging offline", type(error).__name__)
            quiet_environment("offline")
    try:
        return start(mode="offline")
    except Exception as error:
        _log.warning("W&B cannot be started (%s): not logged", type(error).__name__)
        return None


def _started(**init: Any) -> Any:
    """`wandb.init`, which records the words of the command line: they are shown redacted."""
    before = sys.argv
    sys.argv = redacted(before)
    try:
        return wandb.init(**init)
    finally:
        sys.argv = before


def finish(wandb_run: Any, error: BaseException | None) -> None:
    """Close a run; after an error with exit code 1 and the error's name in the summary."""
    if error is not None:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        guarded("error", lambda: wandb_run.summary.update({"error": redacted(said)}))
    try:
        wandb_run.finish(exit_code=int(error is not None))
    except TimeoutError:  # as WANDB_FINISH_TIMEOUT_RAISES asks
        _log.warning("W&B: uploads did not end: logging offline, `wandb sync` sends the rest")
        quiet_environment("offline")
    except Exception as failure:  # a service's failure, of whatever kind, must not cost a run
        said = redacted(str(failure))
        _log.warning("W&B: the run is not closed: %s: %s", type(failure).__name__, said)


@contextmanager
def staged_in(folder: Path) -> Iterator[None]:
    """Have W&B keep its copies of files to upload in `folder`, unless the user says where."""
    given = os.environ.get("WANDB_DATA_DIR")
    os.environ.setdefault("WANDB_DATA_DIR", str((folder / "wandb").resolve()))
    try:
        yield
    finally:
        if given is None:
            os.environ.pop("WANDB_DATA_DIR", None)


def log_run(wandb_run: Any, run: RunFiles, figures: Mapping[str, Path]) -> None:
    """Log a finished run's results, of all stages, to an open W&B run.

    Parameters
    ----------
    wandb_run
        The open run.
    run
        The run's files: tables, plots and summary as `log_content` makes them, and its checkpoint,
        attributions, curves and evaluation as artifacts.
    figures
        Figure name → PNG, as `write_figures` returns them; logged as images.

    Notes
    -----
    Raises nothing: what W&B refuses is a warning in the log, and the rest is still logged.
    """
    log_content(wandb_run, run, STAGES, figures)
    outputs = [Piece.of(kind, run.path) for kind in KINDS]
    if run.best_checkpoint is not None:
        outputs.insert(0, Piece.checkpoint(run.best_checkpoint))
    log_lineage(wandb_run, [], outputs, {"study": str(run.study.get("name", ""))})


def send(run: RunFiles, figures: Mapping[str, Path], group: str | None = None) -> str:
    """Log a finished run as a W&B run of its own, of job type `report`.

    Parameters
    ----------
    run
        The run's files.
    figures
        Figure name → PNG.
    group
        The W&B group, by default the name of the study.

    Returns
    -------
    str
        "online"; "offline" where there is no key or no connection, the run then lies under the
        run's folder for `wandb sync`; "disabled" where nothing was logged.
    """
    leaf = run.section("logger").get("wandb") or {}

    with staged_in(run.path):
        opened = open_run(
            run.path,
            project=str(leaf.get("project", "gradgene")),
            entity=leaf.get("entity"),
            group=group or str(run.study.get("name", "")) or None,
            job_type="report",
            name=f"{run.study.get('name') or run.path.name}-report-seed{run.study.get('seed', 0)}",
            config=redacted({**(run.config or {}), "provenance": run.provenance or {}}),
        )
        if opened is None:
            return "disabled"
        log_run(opened, run, figures)
        finish(opened, None)
    return "offline" if opened.offline else "online"
