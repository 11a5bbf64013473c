"""Weights & Biases: the only file that touches it.

Everything works offline, nothing here ever prompts, and no failure of the service stops a run: it
becomes a warning in the log. (Inside this file `wandb` is the installed package, not this module.)
"""

from __future__ import annotations

import configparser
import logging
import netrc
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import wandb

from gradgene.reports.run_files import RunFiles, ranked

__all__ = ["log_run", "opens", "quiet_environment", "send", "wandb_mode"]

_log = logging.getLogger(__name__)
# Where W&B has served its API, newest name first; used only to look a machine up in netrc.
_HOSTS = ("api.forge.coreweave.com", "forge.coreweave.com", "api.wandb.ai")
_TABLE_ROWS = 500
#: Tables about genes, wherever they lie under `attributions/`.
_GENE_FILES = ("genes.parquet", "genes_by_label.parquet", "effects.parquet", "enrichment.parquet")


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
    folder = os.environ.get("WANDB_CONFIG_DIR") or Path("~/.config/wandb").expanduser()
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(Path(folder) / "settings", encoding="utf-8")
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        _log.warning("W&B settings cannot be read: %s", type(error).__name__)
    return dict(parser["default"]) if parser.has_section("default") else {}


def _in_netrc(hosts: tuple[str, ...]) -> bool:
    """Whether netrc has a password for one of the hosts."""
    named = os.environ.get("NETRC")
    candidates = [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]
    for path in (candidate.expanduser() for candidate in candidates):
        try:
            found = netrc.netrc(str(path))
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
        # Crash reports are sent over the network, also offline.
        "WANDB_ERROR_REPORTING": "false",
        # Seconds until an unreachable server is given up; W&B's own default is 90.
        "WANDB_INIT_TIMEOUT": "30",
    }
    for key, value in defaults.items():
        os.environ.setdefault(key, value)


def opens(start: Callable[[], Any]) -> bool:
    """Whether `start`, which opens a W&B run, succeeds; if not, the log says why."""
    try:
        start()
    except (wandb.errors.Error, OSError) as error:
        _log.warning("W&B cannot be reached (%s): logging offline", type(error).__name__)
        return False
    return True


def log_run(wandb_run: Any, run: RunFiles, figures: Mapping[str, Path]) -> None:
    """Log a finished run's results to an open W&B run.

    Parameters
    ----------
    wandb_run
        The open run, such as `WandbLogger.experiment`.
    run
        The run's files: the 500 best genes, the 30 best of each label, all pairs, strata, effects
        and gene sets become tables, metrics the summary, and gene tables, pruning tables and best
        checkpoint artifacts.
    figures
        Figure name → PNG, as `write_figures` returns them; logged as images.

    Notes
    -----
    Raises nothing: what W&B refuses is a warning in the log, and the rest is still logged.
    """
    folder = run.path / "attributions"
    parts: dict[str, Callable[[], None]] = {
        "metrics": lambda: _log_metrics(wandb_run, run),
        "gene table": lambda: _log_table(wandb_run, "genes", run.ranked_genes, _TABLE_ROWS),
        "pair table": lambda: _log_table(wandb_run, "pairs", run.pairs, None),
        "strata": lambda: _log_table(wandb_run, "strata", run.strata, _TABLE_ROWS),
        "skipped pairs": lambda: _log_table(
            wandb_run, "skipped_pairs", run.skipped_pairs, _TABLE_ROWS
        ),
        "gene table by label": lambda: _log_table(
            wandb_run, "genes_by_label", _best_by_label(run), None
        ),
        "effects": lambda: _log_table(wandb_run, "effects", run.effects, None),
        "enrichment": lambda: _log_table(wandb_run, "enrichment", run.enrichment, _TABLE_ROWS),
        "figures": lambda: wandb_run.log(
            {f"figures/{name}": wandb.Image(str(path)) for name, path in figures.items()}
        ),
        "gene artifact": lambda: _log_artifact(
            wandb_run, run, "genes", [p for n in _GENE_FILES for p in sorted(folder.rglob(n))]
        ),
        "curve artifact": lambda: _log_artifact(
            wandb_run, run, "curves", sorted((run.path / "pruning").glob("*.parquet"))
        ),
        "checkpoint artifact": lambda: _log_artifact(
            wandb_run, run, "checkpoint", [run.best_checkpoint] if run.best_checkpoint else []
        ),
    }
    for name, log_part in parts.items():
        try:
            log_part()
        except Exception as error:  # a service's failure, of whatever kind, must not cost a run
            _log.warning("W&B: %s not logged: %s", name, error, exc_info=True)


def send(run: RunFiles, figures: Mapping[str, Path]) -> str:
    """Log a finished run as a W&B run of its own.

    Returns the mode: "online", or "offline" where there is no key or no connection; offline runs
    lie under the run's folder for `wandb sync`.
    """

    def start() -> Any:
        return wandb.init(
            project="gradgene",
            group=str(run.study.get("name", "")) or None,
            job_type="report",
            dir=str(run.path),
            config=dict(run.config or {}),
        )

    mode = wandb_mode()
    quiet_environment(mode)
    if mode == "online" and not opens(start):
        mode = "offline"
        quiet_environment(mode)
    opened = wandb.run or start()
    log_run(opened, run, figures)
    opened.finish()
    return mode


def _log_metrics(wandb_run: Any, run: RunFiles) -> None:
    if run.metrics:
        wandb_run.summary.update(dict(run.metrics))


def _log_table(wandb_run: Any, name: str, frame: pd.DataFrame | None, rows: int | None) -> None:
    if frame is None or frame.empty:
        return
    shown = frame if rows is None else frame.head(rows)
    # As objects, because W&B takes pandas' null for a value of its own and refuses the column.
    plain = shown.astype(object).where(shown.notna(), None)
    data: list[Any] = plain.to_numpy().tolist()
    wandb_run.log({name: wandb.Table(columns=list(map(str, plain.columns)), data=data)})


def _best_by_label(run: RunFiles, n: int = 30) -> pd.DataFrame | None:
    """The best genes of each label, one label below the other."""
    if run.genes_by_label is None or run.genes_by_label.empty:
        return None
    labels = run.genes_by_label.groupby("label", sort=False)
    return pd.concat([ranked(table).head(n) for _, table in labels], ignore_index=True)


def _log_artifact(wandb_run: Any, run: RunFiles, kind: str, files: list[Path]) -> None:
    if not files:
        return
    # W&B allows letters, digits, dashes, underscores and dots in the names of artifacts.
    study = "".join(c if c.isalnum() or c in "-_." else "-" for c in str(run.study.get("name", "")))
    artifact = wandb.Artifact(
        f"{study or 'run'}-{kind}",
        type=kind,
        metadata={"config_hash": (run.provenance or {}).get("config_hash")},
    )
    for file in files:
        artifact.add_file(str(file), name=file.relative_to(run.path).as_posix())
    wandb_run.log_artifact(artifact)
