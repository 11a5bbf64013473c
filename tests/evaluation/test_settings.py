"""Files of an evaluation are read before work begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradgene.errors import ConfigError
from gradgene.evaluation import Evaluation, KnownEffects


def write(file: Path, text: str) -> str:
    file.write_text(text)
    return str(file)


def test_nothing_known() -> None:
    evidence = Evaluation().read()
    assert (evidence.known_genes, evidence.effects, evidence.gene_sets) == (None, None, None)


def test_every_file_is_read(tmp_path: Path) -> None:
    known = write(tmp_path / "known.txt", "ISG15\nIFI6\n")
    effects = write(tmp_path / "effects.csv", "gene,log_fold_change\nISG15,3\n")
    sets = [write(tmp_path / f"{n}.gmt", f"{n.upper()}\t-\tISG15\tMX1\n") for n in "ab"]
    evidence = Evaluation(known, 5, KnownEffects(file=effects), tuple(sets)).read()
    assert evidence.known_genes == frozenset({"ISG15", "IFI6"})
    assert evidence.effects is not None and evidence.gene_sets is not None
    assert list(evidence.effects["log_fold_change"]) == [3.0]
    assert evidence.gene_sets.sets == {"A": {"ISG15", "MX1"}, "B": {"ISG15", "MX1"}}
    assert evidence.gene_sets.collections == {"A": "a", "B": "b"}


@pytest.mark.parametrize(
    ("evaluation", "where"),
    [
        (Evaluation(known_genes="nowhere.txt"), "evaluation.known_genes"),
        (Evaluation(effects=KnownEffects(file="nowhere.tsv")), "evaluation.effects.file"),
        (Evaluation(gene_sets=("nowhere.gmt",)), "evaluation.gene_sets"),
    ],
)
def test_a_missing_file_names_its_key(evaluation: Evaluation, where: str) -> None:
    with pytest.raises(ConfigError, match=f"{where}: no such .*nowhere"):
        evaluation.read()


def test_no_gene_to_look_at() -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.top_k: looks at no gene"):
        Evaluation(top_k=0)
