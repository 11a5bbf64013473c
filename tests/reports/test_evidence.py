"""Donors, intervals and flags in words: a sentence for each reason, none where all is well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gradgene.genes.flags import FLAGS
from gradgene.reports.evidence import (
    FLAG_MEANINGS,
    donors_of,
    flags_of,
    has_flags,
    interval_note,
    named_flags,
    null_note,
)
from gradgene.reports.run_files import RunFiles
from gradgene.reports.verdict import cautions, verdict
from tests.reports.synthetic import CONFIG, effects_table, gene_table

NO_INTERVALS = {"ci_low": np.nan, "ci_high": np.nan}


def run_of(
    genes: pd.DataFrame | None = None,
    n_input: float | None = None,
    n_baseline: float | None = None,
    **parts: object,
) -> RunFiles:
    """A run in memory without intervals, and donors on both sides as the metrics say."""
    counts = {"input": n_input, "baseline": n_baseline}
    metrics = {f"attribution/deeplift/n_donors_{k}": n for k, n in counts.items() if n is not None}
    genes = gene_table(40).assign(**NO_INTERVALS) if genes is None else genes
    filled = {"config": CONFIG, "metrics": metrics, **parts}
    return RunFiles(path=Path(), genes=genes, **filled)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n_input", "n_baseline", "sentence"),
    [
        (
            *(2, 4),
            "Scores have no intervals: 2 donors on the input side; an interval over donors needs 3 "
            "on both.",
        ),
        (
            *(4.0, 1.0),
            "Scores have no intervals: 1 donor on the baseline side; an interval over donors needs "
            "3 on both.",
        ),
        (
            *(2, 2),
            "Scores have no intervals: 2 donors on the input side and 2 donors on the baseline "
            "side; an interval over donors needs 3 on both.",
        ),
        (0, 0, "The pairs have no donors on the input side, so scores have no intervals."),
        (4, 0, "The donors of the baseline cells are not known, so scores have no intervals."),
        (4, 4, "This run's scores have no intervals over donors."),
    ],
)
def test_why_there_are_no_intervals(n_input: float, n_baseline: float, sentence: str) -> None:
    run = run_of(None, n_input, n_baseline)
    note = interval_note(run)
    assert note is not None and note.startswith(sentence)
    assert note in [caution.text for caution in cautions(run)]
    assert ("genes_training.parquet" in note) == ("needs 3" in note)


def test_no_donor_column_is_the_reason() -> None:
    config = {**CONFIG, "study": {**CONFIG["study"], "donor": None}}  # type: ignore[dict-item]
    note = interval_note(run_of(None, 0, 0, config=config))
    assert note is not None and "No donor column is set (study.donor)" in note


def test_an_artificial_baseline_needs_donors_on_one_side_only() -> None:
    """Where the input cells alone are ranked; the default reads the baseline cells as well."""
    genes = gene_table(40).assign(**NO_INTERVALS, baseline="empty")
    note = "Scores have no intervals: 2 donors on the input side; an interval over donors needs 3."
    forward, default = ({**CONFIG, "ranking": {"importance": i}} for i in ("forward", None))
    assert str(interval_note(run_of(genes, 2, 0, config=forward))).startswith(note)
    said = str(interval_note(run_of(genes, 2, 0, config=default)))
    assert "baseline cells are not known" in said


def test_intervals_need_no_excuse() -> None:
    assert interval_note(run_of(gene_table(40), 2, 2)) is None
    assert interval_note(run_of(gene_table(40).drop(columns=["ci_low"]), 2, 2)) is None
    assert "No intervals" not in [c.title for c in cautions(run_of(gene_table(40), 4, 4))]


def test_donors_are_counted_from_genes_where_no_metric_says() -> None:
    assert donors_of(run_of(None, 5, 3)) == (5, 3)
    assert donors_of(run_of(gene_table(40).assign(n_donors=2))) == (2, None)
    assert donors_of(run_of(gene_table(40).drop(columns="n_donors"))) == (None, None)
    note = interval_note(run_of(gene_table(40).assign(**NO_INTERVALS, n_donors=2)))
    assert note is not None and "2 donors on the input side" in note


def test_flags_are_read_and_named() -> None:
    assert flags_of("cell_cycle;depth") == ("cell_cycle", "depth")
    assert named_flags("cell_cycle;depth") == "cell cycle, depth"
    for nothing in (None, float("nan"), "", pd.NA):
        assert flags_of(nothing) == () and named_flags(nothing) is None
    assert has_flags(run_of(gene_table(60, flags=True))) and not has_flags(run_of())


def test_every_flag_is_explained() -> None:
    assert set(FLAG_MEANINGS) == set(FLAGS)


def test_flagged_genes_among_the_best_are_said() -> None:
    genes = gene_table(60, flags=True)
    (caution,) = [c for c in cautions(run_of(genes)) if c.title == "Flagged genes"]
    first, second = genes.set_index("rank").loc[[2, 5], "gene"]
    assert caution.text.startswith("2 of the 30 best genes")
    assert f"({first}, {second})" in caution.text
    late = genes.assign(flags=genes["flags"].where(genes["rank"] == 40, None))
    assert "Flagged genes" not in [c.title for c in cautions(run_of(late))]


def test_left_out_pairs_and_permuted_labels_are_said() -> None:
    skipped = pd.DataFrame({"method": ["deeplift"] * 2, "pair": [1, 7], "reason": "nan"})
    found = {c.title: c for c in cautions(run_of(skipped_pairs=skipped))}
    assert "deeplift: 2" in found["Pairs left out"].text
    config = {**CONFIG, "pairs": {"permute_labels": 0}}
    found = {c.title: c for c in cautions(run_of(config=config, skipped_pairs=skipped[:0]))}
    assert found["Labels were permuted"].level == "error" and "Pairs left out" not in found


def test_agreement_with_effects_is_said_beside_random() -> None:
    said = [s for s in verdict(run_of(effects=effects_table())) if "published effects" in s]
    assert len(said) == 1
    assert "rank correlation of 0.5 (over 2 labels)" in said[0] and "sign reach 0.15" in said[0]
    one = effects_table()[lambda t: t["label"] == "B cell"]
    assert any("0.6 (for B cell)" in s for s in verdict(run_of(effects=one)))
    other = effects_table()[lambda t: t["ranking"] == "hvg"]
    assert not any("published" in s for s in verdict(run_of(effects=other)))


@pytest.mark.parametrize(
    ("inputs", "baselines", "p", "said"),
    [
        (["a", "b"], ["x", "y"], None, True),  # cases and controls are different people
        (["a", "b"], ["b", "a"], None, False),
        (["a", "b"], ["x", "y"], 0.5, False),
        ([None, None], [None, None], None, False),
    ],
)
def test_why_there_is_no_null_p(
    inputs: list[str | None], baselines: list[str | None], p: float | None, said: bool
) -> None:
    pairs = pd.DataFrame({"pair": [0, 1], "donor_input": inputs, "donor_baseline": baselines})
    run = run_of(gene_table(40).assign(p_null=p), 2, 2, pairs=pairs)
    note = null_note(run)
    assert (note is not None) == said
    if said:
        assert note is not None and "exchanging donors" in note
