"""The folder of a finished run, read once: whatever of it exists."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from gradgene.errors import OutputError, closest
from gradgene.genes import default_importance
from gradgene.store import atomic_path, read_json_lines

__all__ = ["RunFiles", "ranked", "write_atomically"]

# What the reports cannot do without in each table; everything else is shown where it exists.
_NEEDED = {
    "genes": ("gene", "score", "rank"),
    "pairs": ("pair",),
    "examples": ("pair", "standing", "kind", "name", "score", "f_input", "f_baseline"),
    "rankings": ("ranking", "gene", "rank"),
    "curves": ("ranking", "order", "ratio", "arm", "metric", "value"),
    "summary": ("ranking", "order", "area"),
    "retrained": ("ranking", "ratio", "arm", "metric", "value"),
    "history": ("epoch",),
    "confusion": ("truth", "predicted", "n_cells"),
    "donors": ("donor", "n_cells"),
    "strata": ("stratum", "n_pairs"),
    "skipped_pairs": ("method", "pair", "reason"),
    "genes_by_label": ("label", "gene", "score", "rank"),
    "effects": ("ranking", "label", "spearman"),
    "sanity": ("check", "step", "depth", "spearman"),
    "stability": ("kind", "n_pairs", "spearman", "top_overlap"),
    "agreement": ("first", "second", "spearman", "top_overlap"),
    "consensus": ("gene", "rank", "mean_rank", "rra_rho", "n_methods_in_top", "spread"),
    "faithfulness": ("method", "measure", "value", "ci_low", "ci_high", "interval_over", "n_pairs"),
    "interactions": ("gene_a", "gene_b", "interaction", "excess", "p_adjusted", "rank"),
    "enrichment": ("gene_set", "collection", "n_set", "n_overlap", "p_adjusted"),
}


@dataclass(frozen=True)
class RunFiles:
    """A run's folder in memory, every part None where the run did not write it.

    Attributes
    ----------
    path
        The folder.
    config, provenance, metrics, data_report
        `config.yaml`, `provenance.json`, `metrics.json` (flat, name → number) and
        `data_report.json`.
    genes, pairs
        Gene table and pair table of the main method, columns as in the contract.
    examples
        A few pairs of the main method one by one: the scores of their best genes.
    compared
        Gene tables of the compared methods by name; empty where there are none.
    strata, skipped_pairs
        Pairs by stratum, and pairs that were left out while running (`attributions/`).
    plan
        `plan.json` as a table: `method, split, n_pairs, estimated_seconds, estimated_peak_mb`
        and, where it was done, `seconds, peak_mb`.
    genes_by_label
        Gene tables of each label of one category, one below the other, with `label`.
    effects, enrichment
        Agreement with published effects, and gene sets among the best genes.
    faithfulness
        Measures of each attribution method and control on a sample of pairs.
    interactions
        Every two of the best genes, and what they do together.
    sanity, stability
        Controls beside the trained model, and likeness of rankings of other pairs and donors.
    agreement, consensus
        Rankings two by two, and what the methods agree on.
    panel
        The model's genes in its own order, from the vocabulary beside its weights.
    rankings, curves, summary, retrained
        The tables under `pruning/`; `retrained` holds curves of models trained without the genes.
    confusion, donors
        `confusion.parquet` and `test_donors.parquet`: cells of each true and named label, and the
        model's figures on each donor's held-out cells.
    history
        `training.csv`: one row per log entry with `epoch` and metrics.
    stages
        `progress.jsonl`: one row per stage with `stage`, `seconds`, `peak_memory_mb`.

    Raises
    ------
    OutputError
        If a table lacks a column that no report can do without.
    """

    path: Path
    config: dict[str, Any] | None = None
    provenance: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    data_report: dict[str, Any] | None = None
    genes: pd.DataFrame | None = None
    pairs: pd.DataFrame | None = None
    examples: pd.DataFrame | None = None
    rankings: pd.DataFrame | None = None
    curves: pd.DataFrame | None = None
    summary: pd.DataFrame | None = None
    retrained: pd.DataFrame | None = None
    confusion: pd.DataFrame | None = None
    donors: pd.DataFrame | None = None
    history: pd.DataFrame | None = None
    stages: pd.DataFrame | None = None
    strata: pd.DataFrame | None = None
    skipped_pairs: pd.DataFrame | None = None
    plan: pd.DataFrame | None = None
    genes_by_label: pd.DataFrame | None = None
    effects: pd.DataFrame | None = None
    enrichment: pd.DataFrame | None = None
    faithfulness: pd.DataFrame | None = None
    interactions: pd.DataFrame | None = None
    sanity: pd.DataFrame | None = None
    stability: pd.DataFrame | None = None
    agreement: pd.DataFrame | None = None
    consensus: pd.DataFrame | None = None
    panel: tuple[str, ...] | None = None
    compared: dict[str, pd.DataFrame] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tables = {name: getattr(self, name) for name in _NEEDED}
        for name, table in self.compared.items():
            tables[f"genes of {name}"] = table
        for name, table in tables.items():
            for column in _NEEDED.get(name, _NEEDED["genes"]):
                if table is not None and column not in table.columns:
                    raise OutputError(
                        f"the {name} table has no column {column!r}",
                        where=str(self.path),
                        found=closest(column, list(map(str, table.columns))),
                        fix="run the stage that writes it again",
                    )

    @classmethod
    def read(cls, path: str | Path) -> RunFiles:
        """Read a run's folder.

        Parameters
        ----------
        path
            The run's output directory; parts that do not exist are None.

        Returns
        -------
        RunFiles

        Raises
        ------
        OutputError
            If the folder does not exist, holds no part of a run, or a file in it is damaged.
        """
        path = Path(path)
        if not path.is_dir():
            raise OutputError(
                "no such run directory",
                where=str(path),
                fix="give the output directory of a finished run",
            )
        parts: dict[str, Any] = {
            name: _read(path / file, reader) for name, (file, reader) in _PARTS.items()
        }
        compared = {
            table.parent.name: _read(table, _parquet)
            for table in sorted(path.glob("attributions/*/genes.parquet"))
        }
        if not compared and all(part is None for part in parts.values()):
            raise OutputError(
                "this is not a run's directory",
                where=str(path),
                expected="config.yaml, metrics.json, attributions/ or pruning/",
                found=closest("config.yaml", sorted(p.name for p in path.iterdir())) or "nothing",
            )
        return cls(path=path, compared=compared, **parts)

    @property
    def study(self) -> dict[str, Any]:
        """The `study` section of the configuration, empty where there is none."""
        return self.section("study")

    def section(self, name: str) -> dict[str, Any]:
        """A section of the configuration as a dict, empty where it is absent or no mapping."""
        found = (self.config or {}).get(name)
        return found if isinstance(found, dict) else {}

    @property
    def method(self) -> str | None:
        """Name of the main attribution method, from the gene table or the configuration."""
        if self.genes is not None and "method" in self.genes and len(self.genes):
            return str(self.genes["method"].iloc[0])
        return None

    @property
    def baseline(self) -> str | None:
        """Name of the baseline strategy, from the gene table."""
        if self.genes is not None and "baseline" in self.genes and len(self.genes):
            return str(self.genes["baseline"].iloc[0])
        return None

    @property
    def ranking_name(self) -> str | None:
        """Name of the ranking that the run is about: the configured control, or the main method's
        importance and sign; None without a gene table."""
        if self.genes is None or not {"method", "baseline"} <= set(self.genes) or self.genes.empty:
            return None
        configured = self.section("ranking")
        wanted = str(configured.get("kind", "attribution"))
        if wanted != "attribution":
            return wanted
        method, baseline = (str(self.genes[c].iloc[0]) for c in ("method", "baseline"))
        importance = configured.get("importance") or default_importance(method, baseline)
        absolute = configured.get("sign") == "absolute"
        return f"{method}/{importance}" + ("/abs" if absolute else "")

    @property
    def main_ranking(self) -> str | None:
        """`ranking_name` if it is in the curves; None where there are no such curves."""
        if self.curves is None:
            return None
        name = self.ranking_name
        return name if name in set(self.curves["ranking"]) else None

    @property
    def recovered(self) -> list[tuple[str, str, Any]]:
        """Of every ranking its name, how many best genes were looked at, and how many are known."""
        found = []
        for key, value in (self.metrics or {}).items():
            ranking, at, top = key.removeprefix("recovery/").rpartition("@")
            if at and key.startswith("recovery/"):
                found.append((ranking, top, value))
        return found

    @property
    def ranked_genes(self) -> pd.DataFrame | None:
        """The gene table without `@category` rows and without rankless ones, best gene first."""
        return None if self.genes is None else ranked(self.genes)

    @property
    def best_checkpoint(self) -> Path | None:
        """`checkpoints/best.ckpt` if the run kept one."""
        path = self.path / "checkpoints" / "best.ckpt"
        return path if path.is_file() else None


def ranked(genes: pd.DataFrame) -> pd.DataFrame:
    """A gene table without `@category` rows and without rankless ones, best gene first."""
    kept = genes[genes["rank"].notna()]
    kept = kept[~kept["gene"].astype(str).str.startswith("@")]
    return kept.sort_values("rank", kind="stable").reset_index(drop=True)


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    """Read a part that may be absent; a damaged one is the user's to know, by name."""
    if not path.is_file():
        return None
    try:
        return reader(path)
    # pyarrow's ArrowInvalid and json's and pandas' errors are all ValueErrors.
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(
            "cannot be read",
            where=str(path),
            found=f"{type(error).__name__}: {error}",
            fix="run the stage that writes it again",
        ) from error


def _mapping(loaded: Any) -> dict[str, Any]:
    if not isinstance(loaded, dict):
        raise TypeError(f"a mapping is expected, this holds a {type(loaded).__name__}")
    return {str(key): value for key, value in loaded.items()}


def _yaml(path: Path) -> dict[str, Any]:
    try:
        # Not resolved: a run writes it resolved, and a hand-made one may lean on what is not here.
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception as error:  # the YAML parser's own errors share no base with ours
        raise ValueError(" ".join(str(error).split())) from error
    return _mapping(loaded)


def _json(path: Path) -> dict[str, Any]:
    return _mapping(json.loads(path.read_text(encoding="utf-8")))


def _parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path)


def _csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path)


def _json_lines(path: Path) -> pd.DataFrame | None:
    rows = read_json_lines(path)
    return pd.DataFrame(rows) if rows else None


def _plan(path: Path) -> pd.DataFrame:
    """`plan.json`, method → split → what it was to take and took, as a table."""
    columns = ["n_pairs", "estimated_seconds", "estimated_peak_mb", "seconds", "peak_mb"]
    rows = [
        {"method": method, "split": split, **{name: _mapping(found).get(name) for name in columns}}
        for method, splits in _json(path).items()
        for split, found in _mapping(splits).items()
    ]
    return pd.DataFrame(rows, columns=["method", "split", *columns])


def _panel(path: Path) -> tuple[str, ...] | None:
    genes = _json(path).get("genes")
    return tuple(map(str, genes)) if isinstance(genes, list) else None


_PARTS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "config": ("config.yaml", _yaml),
    "provenance": ("provenance.json", _json),
    "metrics": ("metrics.json", _json),
    "data_report": ("data_report.json", _json),
    "genes": ("attributions/genes.parquet", _parquet),
    "pairs": ("attributions/pairs.parquet", _parquet),
    "examples": ("attributions/examples.parquet", _parquet),
    "rankings": ("pruning/rankings.parquet", _parquet),
    "curves": ("pruning/curves.parquet", _parquet),
    "summary": ("pruning/summary.parquet", _parquet),
    "retrained": ("pruning/retrained.parquet", _parquet),
    "confusion": ("confusion.parquet", _parquet),
    "donors": ("test_donors.parquet", _parquet),
    "history": ("training.csv", _csv),
    "stages": ("progress.jsonl", _json_lines),
    "strata": ("attributions/strata.parquet", _parquet),
    "skipped_pairs": ("attributions/skipped_pairs.parquet", _parquet),
    "plan": ("attributions/plan.json", _plan),
    "genes_by_label": ("attributions/genes_by_label.parquet", _parquet),
    "effects": ("attributions/effects.parquet", _parquet),
    "enrichment": ("attributions/enrichment.parquet", _parquet),
    "faithfulness": ("evaluation/faithfulness.parquet", _parquet),
    "interactions": ("evaluation/interactions.parquet", _parquet),
    "sanity": ("evaluation/sanity.parquet", _parquet),
    "stability": ("evaluation/stability.parquet", _parquet),
    "agreement": ("evaluation/agreement.parquet", _parquet),
    "consensus": ("evaluation/consensus.parquet", _parquet),
    "panel": ("checkpoints/hf/vocabulary.json", _panel),
}


def write_atomically(path: Path, content: bytes) -> Path:
    """Write a file under a temporary name and rename it, so that a half file is never seen.

    Parameters
    ----------
    path
        Where the file goes; missing folders are made.
    content
        The whole file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OutputError
        If it cannot be written (no space, no permission).
    """
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise OutputError(
            "cannot be written", where=str(path), found=str(error), fix="free space or rights"
        ) from error
    return path
