"""Streamed cells: split by donor, a vocabulary of what may be seen, and what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradgene.cells import Cells, choose_genes, read_cells, split_cells
from gradgene.errors import GradgeneError
from gradgene.lit import StreamDataModule
from tests.planted import BIN_EDGES, PHENOTYPES, make_adata


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of 80 cells of donors d0 … d5, one with its genes reversed."""
    folder = tmp_path_factory.mktemp("shards")
    for i in range(3):
        adata = make_adata(80, 40, n_donors=6, seed=i)
        adata.obs_names = [f"{i}-{name}" for name in adata.obs_names]
        adata.obs.loc[adata.obs_names[:5], "sex"] = "unknown"
        adata.obs.loc[adata.obs_names[-2:], "donor"] = "unknown"
        (adata[:, ::-1].copy() if i else adata).write_h5ad(folder / f"part{i}.h5ad")
    return folder


def module(files: Path, **changes: Any) -> StreamDataModule:
    """Donors d4 and d5 held out."""
    given: dict[str, Any] = {
        "path": str(files / "*.h5ad"),
        "phenotypes": PHENOTYPES,
        "bin_edges": BIN_EDGES,
        "donor": "donor",
        "holdout_donors": ("d4", "d5"),
        "validation": 0.2,
        "batch_tokens": 1000,
        "fetch_cells": 64,
        "block_cells": 8,
    }
    data = StreamDataModule(**{**given, **changes})
    data.setup()
    return data


def donors(data: StreamDataModule, part: str) -> set[str]:
    assert data.shards is not None
    return set(data.shards.obs["donor"].iloc[data.split.names[part]].astype(str))


def test_held_out_and_unknown_donors_are_not_learnt_from(files: Path) -> None:
    data = module(files)
    assert donors(data, "test") == {"d4", "d5"}
    assert donors(data, "train") | donors(data, "validation") == {"d0", "d1", "d2", "d3"}
    assert set(data.units("train")) <= {"d0", "d1", "d2", "d3"}
    parts = [rows.size for rows in data.split.names.values()]
    assert sum(parts) == 240 - 6
    assert data.report()["dropped"] == {"no donor": 6}
    n_train, n_validation, _ = parts
    assert n_validation == pytest.approx(0.2 * (n_train + n_validation), abs=1)


def test_no_donor_need_be_held_out(files: Path) -> None:
    for holdout in ((), 0.0):
        data = module(files, holdout_donors=holdout)
        assert data.split.test_n.size == 0
        assert data.split.train_n.size + data.split.validation_n.size == 240


def test_validation_donors(files: Path) -> None:
    for holdout in ((), ("d5",)):
        data = module(files, holdout_donors=holdout, validation_donors=("d0",))
        assert donors(data, "validation") == {"d0"}
        assert donors(data, "train") == {"d1", "d2", "d3", "d4", "d5"} - set(holdout)


def test_a_fraction_holds_out_the_donors_that_a_study_would(files: Path) -> None:
    """What was held out from pretraining is what the study of the same seed judges on."""
    data = module(files, holdout_donors=0.34, seed=5)
    cells = read_cells(str(files / "*.h5ad"), data.schema)
    known = cells.take(np.flatnonzero(cells.obs["donor"].notna()))
    study = split_cells(known, "disease", 0.34, 0.1, 5)
    judged = set(known.obs["donor"].iloc[study.test_n])
    assert donors(data, "test") == judged and len(judged) == 2


def test_every_cell_once_an_epoch_and_whole_validation_cells(files: Path) -> None:
    data = module(files, epochs=2, train_tokens=5)
    train, validation = [*data.train_dataloader()], [*data.val_dataloader()]
    assert sum(map(len, train)) == 2 * data.split.train_n.size
    assert sum(map(len, validation)) == data.split.validation_n.size
    n_header = data.tokenizer.vocabulary.n_header
    assert {b.tokens.input_ids_nt.shape[1] for b in train} == {n_header + 5 + 1}
    assert data.shards is not None
    cells = data.tokenizer.prepare(data.shards.read(data.split.validation_n))
    whole = data.tokenizer.encode(cells)
    assert sum(int((b.tokens.gene_ids_nt >= 0).sum()) for b in validation) == int(
        (whole.gene_ids_nt >= 0).sum()
    )
    assert "5 genes" in data.report()["notes"][-1]


def test_missing_labels_are_allowed_and_are_no_labels(files: Path) -> None:
    data = module(files)
    assert data.tokenizer.vocabulary.categories["sex"] == ("female", "male")
    assert any("sex" in note for note in data.report()["notes"])


def test_genes_are_chosen_on_a_sample_of_training_cells(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(module(files).tokenizer.vocabulary.genes) == 40
    seen: list[Cells] = []

    def witnessed(cells: Cells, *how: Any) -> tuple[str, ...]:
        seen.append(cells)
        return choose_genes(cells, *how)

    monkeypatch.setattr("gradgene.lit.stream_data.choose_genes", witnessed)
    data = module(files, genes=10, gene_sample=30)
    assert len(data.tokenizer.vocabulary.genes) == 10
    assert len(seen[0]) == 30
    assert set(seen[0].obs["donor"]) <= {"d0", "d1", "d2", "d3"}
    train = data.shards.obs.index[data.split.train_n]  # type: ignore[union-attr]
    assert set(seen[0].obs.index) <= set(train)


def test_genes_of_a_list_that_are_not_found_are_reported(files: Path, tmp_path: Path) -> None:
    panel = tmp_path / "genes.txt"
    panel.write_text("g3\nGAPDH\ng7\n")
    data = module(files, genes=str(panel))
    assert data.tokenizer.vocabulary.genes == ("g3", "g7")
    assert data.report()["notes"][-1].endswith("are not in the cells: GAPDH")


def test_few_genes_of_many_fill_batches_as_well(files: Path) -> None:
    """The budget is of tokens, not of stored entries, most of which may be of other genes."""
    data = module(files, genes=20, batch_tokens=120)
    batches = [*data.train_dataloader()]
    assert max(b.tokens.input_ids_nt.numel() for b in batches) <= 120 * 1.1**3
    assert 0.4 < data.share < 0.9
    unaware = module(files, genes=20, batch_tokens=120)
    unaware.share = 1.0
    assert len(batches) < 0.9 * len(unaware.train_dataloader())


def test_labels_of_held_out_donors_are_unknown_to_the_vocabulary(
    files: Path, tmp_path: Path
) -> None:
    adata = make_adata(60, 20)
    adata.obs.loc[adata.obs["donor"] == "d3", "cell_type"] = "platelet"
    adata.write_h5ad(tmp_path / "one.h5ad")
    data = module(files, path=str(tmp_path / "one.h5ad"), holdout_donors=("d3",))
    assert "platelet" not in data.tokenizer.vocabulary.categories["cell_type"]


def test_it_can_be_sent_to_workers(files: Path) -> None:
    alone, helped = module(files), module(files, workers=2)
    first = [b.seeds_n.tolist() for b in alone.train_dataloader()]
    assert first == [b.seeds_n.tolist() for b in helped.train_dataloader()]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"holdout_donors": ("d9",)}, "d9"),
        ({"validation": 0.0}, r"data\.validation: no cell is left"),
        ({"validation": 0.0, "holdout_donors": 0.0}, r"data\.validation: no cell is left"),
        ({"validation_donors": 0.0}, r"data\.validation_donors: "),
        (
            {"validation_donors": 0.0, "holdout_donors": 0.0},
            r"data\.validation_donors: no cell is left to choose .* found 0\.0 of",
        ),
        ({"donor": None, "holdout_donors": ("d1",)}, "study.donor"),
        ({"train_tokens": 0}, "data.train_tokens"),
        ({"epochs": 0}, "data.epochs"),
        ({"phenotypes": ("nothing",)}, "nothing"),
        ({"bin_edges": (2.0, 1.0)}, "bin_edges"),
    ],
)
def test_what_cannot_be_is_refused(files: Path, change: dict[str, Any], match: str) -> None:
    with pytest.raises(GradgeneError, match=match):
        module(files, **change)
