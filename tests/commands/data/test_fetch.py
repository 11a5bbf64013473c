"""`gradgene data fetch`: its words, its file, and the commands in the headers of experiments."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from gradgene.commands.config.groups import conf_dir
from gradgene.commands.data import fetch as data_fetch
from gradgene.commands.data.fetch import read_query
from gradgene.commands.main import main
from gradgene.errors import CellsError, ConfigError

FROM_CENSUS = ("alzheimer_microglia", "breast_cancer_fibroblast", "dcm_heart")


def test_commas_without_a_space_part_labels() -> None:
    query = read_query(
        ["cell_type=CD4-positive, alpha-beta T cell,B cell", "n=7", "seed=3", "census=2025-01-30"]
    )
    assert query.labels == {"cell_type": ("CD4-positive, alpha-beta T cell", "B cell")}
    assert (query.n, query.seed, query.census) == (7, 3, "2025-01-30")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["disease=a", "disease=b"], "disease: is given twice"),
        (["disease="], "disease: has no value"),
        (["disease=a", "n=many"], "n: is no whole number"),
        (["disease=a", "n=-1"], "n: is no whole number"),
        (["disease=a,b", "n=1"], "2 or more"),
        ([], "COLUMN=LABEL"),
        (["n=5"], "COLUMN=LABEL"),
    ],
)
def test_words_that_make_no_query(settings: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        read_query(settings)


@pytest.fixture
def census(tmp_path: Path) -> Path:
    """A small store with two diseases."""
    pytest.importorskip(
        "cellxgene_census", reason="needs cellxgene-census: pip install 'gradgene[census]'"
    )
    from tests.census_store import write_census

    n = 40
    obs = pd.DataFrame(
        {
            "cell_type": "microglial cell",
            "tissue": "cortex",
            "tissue_general": "brain",
            "disease": np.resize(["Alzheimer disease", "normal"], n),
            "development_stage": "80-year-old stage",
            "sex": "male",
            "assay": "10x 3' v3",
            "donor_id": [f"d{i % 8}" for i in range(n)],
            "dataset_id": "set",
            "is_primary_data": True,
        }
    )
    return write_census(tmp_path / "census", obs, np.eye(n, 20) + 1)


def test_a_fetched_file_can_be_inspected(
    census: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "cells.h5ad"
    words = ["disease=Alzheimer disease,normal", "tissue_general=brain", "n=20"]
    assert main(["data", "fetch", str(out), *words, f"census={census}"]) == 0
    assert "gradgene data inspect" in capsys.readouterr().out
    assert ad.read_h5ad(out).shape == (20, 20)
    assert [f.name for f in out.parent.iterdir()] == ["cells.h5ad"]
    assert main(["data", "inspect", str(out)]) == 0
    assert "20 of 20 look like Ensembl ids" in capsys.readouterr().out


def test_nothing_is_overwritten_and_nothing_is_left_of_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_network(query: object) -> None:
        raise CellsError("cannot be read", where="census=stable")

    monkeypatch.setattr(data_fetch, "fetch_cells", no_network)
    assert main(["data", "fetch", str(tmp_path / "a.h5ad"), "disease=normal"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a.h5ad").write_text("precious")
    assert main(["data", "fetch", str(tmp_path / "a.h5ad"), "disease=normal"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "a.h5ad").read_text() == "precious"


@pytest.mark.parametrize("words", [[], ["a.txt"], ["a.h5ad", "b.h5ad"]])
def test_one_file_is_named(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "fetch", *words, "disease=normal"]) == 2
    assert "a name ending in .h5ad" in capsys.readouterr().err


@pytest.mark.parametrize("name", FROM_CENSUS)
def test_the_header_of_an_experiment_fetches_the_cells_it_asks_for(name: str) -> None:
    text = (conf_dir() / "experiment" / f"{name}.yaml").read_text()
    header = re.sub(r"\\\n# *", "", text)
    line = next(s for s in header.splitlines() if "gradgene data fetch" in s)
    _, _, _, file, *settings = shlex.split(line.lstrip("# "))
    query = read_query(settings)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=[f"experiment={name}", f"data.path={file}"])
    study = cfg.study
    assert query.labels == {
        study.target: (study.input, study.baseline),
        **{column: tuple(labels) for column, labels in study.filters.items()},
    }
    assert query.balanced == study.target and query.n == cfg.data.max_cells
    for command in ("validate", "study"):
        assert re.search(rf"gradgene (data )?{command} experiment={name} data\.path={file}", header)


@pytest.mark.network
@pytest.mark.slow
def test_the_real_census(tmp_path: Path) -> None:
    words = ["disease=Alzheimer disease,normal", "cell_type=microglial cell", "n=20"]
    assert main(["data", "fetch", str(tmp_path / "a.h5ad"), *words, "tissue_general=brain"]) == 0
    assert ad.read_h5ad(tmp_path / "a.h5ad").n_obs == 20
