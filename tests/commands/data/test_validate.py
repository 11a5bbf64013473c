"""`gradgene data validate` accepts and refuses what a study does, and writes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gradgene.commands.main import main
from tests.integration.tiny import words, write_cells


@pytest.fixture
def validate(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Validate a file in an empty working directory; returns exit code and output."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def call(data: Path, *more: str) -> tuple[int, str, str]:
        code = main(["data", "validate", *words(data, here / "runs", *more)])
        assert list(here.iterdir()) == []
        return code, *capsys.readouterr()

    return call


def test_good_cells(tmp_path: Path, validate) -> None:
    code, out, err = validate(write_cells(tmp_path / "a.h5ad"), "data.holdout_donors=[d0,d1]")
    assert (code, err) == (0, "")
    assert "columns: disease, cell_type; donor donor" in out
    assert "values: counts; 30 genes" in out
    for text in ("│ test       │ case    │", "pairs of test cells: 6", "pairs of train cells: 6"):
        assert text in out
    assert "valid: a study with this configuration would start training" in out


def test_cells_without_a_partner_are_told(tmp_path: Path, validate) -> None:
    def lonely(adata) -> None:
        both = (adata.obs["disease"] == "control") & (adata.obs["cell_type"] == "B cell")
        adata.obs.loc[both, "cell_type"] = "T cell"

    code, out, _ = validate(write_cells(tmp_path / "a.h5ad", lonely))
    assert code == 0 and "input cells have no partner, most often: no 'control' cell in 'B" in out


def never_matched(adata) -> None:
    adata.obs["cell_type"] = np.where(adata.obs["disease"] == "case", "T cell", "B cell")


def lognormalised(adata) -> None:
    adata.X = adata.X.log1p()


@pytest.mark.parametrize(
    ("change", "more", "says"),
    [
        (None, ["study.input=csae"], "study.input: no cell has the label 'csae'"),
        (None, ["data.phenotypes=[disease,celltype]", "study.match_on=[]"], "'celltype'"),
        (None, ["data.holdout_donors=[d9]"], "no cell is from donor 'd9'"),
        (None, ["study.donor=patient"], "'patient'"),
        (None, ["data.genes=nowhere.txt"], "no such gene list"),
        (None, ["pruning.rankings=[nonsense]"], "nonsense"),
        (None, ["ranking.importance=paper_empty"], "paper_empty"),
        (lognormalised, [], "not whole numbers"),
        (never_matched, [], "no matched pair can be formed"),
    ],
)
def test_whatever_a_study_would_refuse(
    tmp_path: Path, validate, change, more: list[str], says: str
) -> None:
    code, out, err = validate(write_cells(tmp_path / "a.h5ad", change), *more)
    assert code == 2 and says in err and err.count("\n") == 1
    assert "valid:" not in out


def test_a_path_needs_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "validate", "my.h5ad"]) == 2
    assert "data.path=my.h5ad" in capsys.readouterr().err
    assert main(["data", "validate"]) == 2
    assert "study.target=..." in capsys.readouterr().err


@pytest.mark.parametrize("action", ["", "inspct", "nothing"])
def test_an_unknown_action(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", action] if action else ["data"]) == 2
    err = capsys.readouterr().err
    assert "needs an action" in err and "'inspect'" in err and err.count("\n") == 1
