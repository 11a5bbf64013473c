"""Cells are checked, split by donor and served so that an epoch depends on its number alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradgene.cells import log_normalise
from gradgene.errors import CellsError, ConfigError, LabelError
from gradgene.lit import CellDataModule
from gradgene.tokens import TokenBatch
from tests.lit.toys import adata_with, data_module, write
from tests.planted import PHENOTYPES, make_adata, make_cells, make_tokenizer


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 planted cells of donors d0 … d3."""
    return write(make_adata(n=96), tmp_path_factory.mktemp("cells"))


def test_parts_are_the_cells_split_by_donor(file: Path) -> None:
    data = data_module(file, validation=0.2)
    parts = {name: data.part(name) for name in ("train", "validation", "test")}
    names = [cell for part in parts.values() for cell in part.obs.index]
    adata = make_adata(n=96)
    assert sorted(names) == sorted(adata.obs_names)
    assert set(parts["test"].obs["donor"]) == {"d3"}
    assert len(parts["test"]) == (adata.obs["donor"] == "d3").sum()
    assert "d3" not in {*parts["train"].obs["donor"], *parts["validation"].obs["donor"]}
    rest = len(parts["train"]) + len(parts["validation"])
    assert len(parts["validation"]) == pytest.approx(0.2 * rest, abs=1)
    for part in parts.values():
        values = np.expm1(part.matrix_ng.toarray()).sum(axis=1)
        np.testing.assert_allclose(values, 1e4, rtol=1e-4)  # normalised; every gene is in the panel


def test_table_counts_cells_and_donors(file: Path) -> None:
    data = data_module(file)
    data.setup()
    obs = make_adata(n=96).obs
    table = data.table().set_index(["split", "label"])
    test = obs[obs["donor"] == "d3"]
    for label in ("case", "control"):
        assert table.loc[("test", label), "n_cells"] == (test["disease"] == label).sum()
        assert table.loc[("test", label), "n_donors"] == 1
        assert table.loc[("train", label), "n_donors"] == 3
    assert table["n_cells"].sum() == 96


def test_without_donors(file: Path) -> None:
    data = data_module(file, donor=None, holdout_donors=0.25)
    data.setup()
    assert "stratified" in data.split.kind
    assert len(data.part("test")) == 24
    assert data.table()["n_donors"].isna().all()


def test_setup_reads_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_module(file)
    data.setup()
    cells = data.cells
    monkeypatch.setattr("gradgene.lit.data.read_cells", None)
    data.setup("fit")
    assert data.cells is cells


def failure(data: CellDataModule) -> str:
    """The one line in which setup fails."""
    with pytest.raises(CellsError) as caught:
        data.setup()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_target_must_be_a_phenotype(file: Path) -> None:
    message = failure(data_module(file, phenotypes=("cell_type", "sex")))
    assert "data.phenotypes: the target 'disease' is not among the phenotypes" in message
    assert "['cell_type', 'sex']" in message


@pytest.mark.parametrize("side", ["input", "baseline"])
def test_missing_label_lists_the_labels(file: Path, side: str) -> None:
    with pytest.raises(LabelError) as caught:
        data_module(file, None, **{side: "cases"}).setup()
    message = str(caught.value)
    assert f"study.{side}: no cell has the label 'cases' in column 'disease'" in message
    assert "'case' (48), 'control' (48)" in message


def test_held_out_donors_without_one_side(tmp_path: Path) -> None:
    third = np.resize(["case", "control", "other"], 96)
    donors = np.resize(["d0", "d1", "d2"], 96)
    donors[third != "control"] = np.resize(["d3", "d3", "d0", "d1"], (third != "control").sum())
    message = failure(data_module(adata_with(disease=third, donor=donors), tmp_path))
    assert "data.holdout_donors: no test cell has the label 'control'" in message
    assert "'case'" in message and "'other'" in message and "held-out donors d3" in message


def test_training_donors_without_one_side(tmp_path: Path) -> None:
    third = np.resize(["case", "control", "other"], 96)
    donors = np.where(third == "case", "d3", np.resize(["d0", "d1", "d3", "d2"], 96))
    message = failure(data_module(adata_with(disease=third, donor=donors), tmp_path))
    assert "no train cell has the label 'case'" in message


@pytest.mark.parametrize(("alone", "part"), [("train", "train"), ("test", "test")])
def test_one_label_on_one_side(tmp_path: Path, alone: str, part: str) -> None:
    labels = np.resize(["case", "control"], 96)
    mixed = np.resize(["d3", "d3", "d0", "d0"], 96)
    only = "d3" if alone == "train" else "d0"
    donors = np.where(labels == "control", only, mixed)
    message = failure(data_module(adata_with(disease=labels, donor=donors), tmp_path))
    assert f"the {part} cells have the one label 'case'" in message
    assert "study.target=disease" in message and "data.holdout_donors" in message


def test_cells_without_target_or_donor_are_dropped_and_counted(tmp_path: Path) -> None:
    adata = make_adata(n=96)
    for column, rows in (("disease", [0, 5, 17]), ("donor", [5, 20])):
        labels = adata.obs[column].astype(object)
        labels.iloc[rows] = None
        adata.obs[column] = labels
    data = data_module(adata, tmp_path)
    data.setup()
    assert data.cells is not None
    assert data.cells.dropped == {"no disease": 3, "no donor": 1}
    kept = set(adata.obs_names) - {"cell0", "cell5", "cell17", "cell20"}
    assert set(data.cells.obs.index) == kept
    parts = [set(data.part(name).obs.index) for name in ("train", "validation", "test")]
    assert set.union(*parts) == kept
    # Without a donor column of the study nobody needs a donor.
    alone = data_module(tmp_path / "cells.h5ad", donor=None, holdout_donors=0.3)
    alone.setup()
    assert alone.cells is not None and alone.cells.dropped == {"no disease": 3}


def test_the_panel_is_chosen_on_training_cells(tmp_path: Path) -> None:
    adata = make_adata(n=96)
    counts = adata.X.toarray()
    test_n = (adata.obs["donor"] == "d3").to_numpy()
    rng = np.random.default_rng(0)
    counts[:, 20], counts[:, 21] = 1, 0
    counts[test_n, 20] = rng.choice([0, 500], test_n.sum())  # varies in held-out cells alone
    counts[test_n, 21] = 30  # is seen in held-out cells alone
    adata.X = type(adata.X)(counts)
    variances = np.log1p(counts).var(axis=0)
    assert variances.argmax() == 20  # whoever looks at all cells chooses it first
    data = data_module(adata, tmp_path, genes=10, validation=0.2)
    data.setup()
    by_training = np.argsort(-np.log1p(counts[data.split.train_n]).var(axis=0))[:10]
    assert set(data.tokenizer.vocabulary.genes) == {f"g{i}" for i in by_training}
    assert "g20" not in data.tokenizer.vocabulary.genes
    all_seen = data_module(tmp_path / "cells.h5ad", genes=None)
    all_seen.setup()
    assert set(adata.var_names) - set(all_seen.tokenizer.vocabulary.genes) == {"g21"}


def test_depth_is_over_all_genes(tmp_path: Path) -> None:
    adata = make_adata(n=96)
    data = data_module(adata, tmp_path, genes=10)
    data.setup()
    assert data.cells is not None
    counts = adata.X.toarray()
    expected = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    columns = [adata.var_names.get_loc(g) for g in data.cells.genes]
    np.testing.assert_allclose(data.cells.matrix_ng.toarray(), expected[:, columns], rtol=1e-5)


def test_a_given_tokenizer_decides_the_genes(file: Path) -> None:
    theirs = make_tokenizer(make_cells(n=40, n_genes=30))
    data = data_module(file, genes=5)
    data.use_tokenizer(theirs)
    data.setup()
    assert data.cells is not None and data.tokenizer is theirs
    assert data.cells.genes == tuple(f"g{i}" for i in range(30))
    whole = log_normalise(make_cells(n=96)).with_genes(data.cells.genes)
    np.testing.assert_allclose(data.cells.matrix_ng.toarray(), whole.matrix_ng.toarray(), rtol=1e-6)


def test_a_tokenizer_of_more_phenotypes_is_refused(file: Path) -> None:
    data = data_module(file, phenotypes=("disease", "cell_type"))
    with pytest.raises(CellsError) as caught:
        data.use_tokenizer(make_tokenizer(make_cells()))
    assert str(caught.value) == (
        "data.phenotypes: the model reads the phenotype 'sex', which the study does not name; "
        "expected ['disease', 'cell_type', 'sex']; found ['disease', 'cell_type']"
    )


@pytest.mark.parametrize("given", [False, True])
def test_cells_that_express_no_gene_of_the_panel_are_in_no_part(
    tmp_path: Path, given: bool
) -> None:
    adata = make_adata(n=96)
    counts = adata.X.toarray()
    counts[:, :10] += 1
    for row in (3, 10, 50):  # all they express is a gene beside the panel
        counts[row] = 0
        counts[row, 40] = 7
    adata.X = type(adata.X)(counts)
    panel = tmp_path / "panel.txt"
    panel.write_text("\n".join(f"g{i}" for i in range(10)) + "\n")
    data = data_module(adata, tmp_path, genes=str(panel), validation=0.2)
    if given:
        data.use_tokenizer(make_tokenizer(make_cells(n=40, n_genes=10)))
    data.setup()
    assert data.cells is not None
    assert data.cells.dropped == {"no gene of the panel": 3}
    parts = [set(data.part(name).obs.index) for name in ("train", "validation", "test")]
    kept = set(adata.obs_names) - {"cell3", "cell10", "cell50"}
    assert set.union(*parts) == kept and sum(map(len, parts)) == 93
    assert data.table()["n_cells"].sum() == 93


def test_a_side_that_is_emptied_by_the_panel_is_an_error(tmp_path: Path) -> None:
    adata = make_adata(n=96)
    counts = adata.X.toarray()
    gone = ((adata.obs["donor"] == "d3") & (adata.obs["disease"] == "case")).to_numpy()
    counts[gone], counts[gone, 40] = 0, 7
    adata.X = type(adata.X)(counts)
    panel = tmp_path / "panel.txt"
    panel.write_text("\n".join(f"g{i}" for i in range(50) if i != 40) + "\n")
    message = failure(data_module(adata, tmp_path, genes=str(panel)))
    assert "the test cells have the one label 'control'" in message


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("validation", 1.0, "in [0, 1)"),
        ("validation", -0.1, "in [0, 1)"),
        ("validation", float("nan"), "in [0, 1)"),
        ("holdout_donors", 1, "in [0, 1)"),
        ("holdout_donors", -0.5, "in [0, 1)"),
        ("batch_size", 0, "1 or more"),
        ("train_tokens", 0, "1 or more"),
        ("train_tokens", -300, "1 or more"),
    ],
)
def test_numbers_out_of_range(file: Path, name: str, value: float, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        data_module(file, None, **{name: value})
    message = str(caught.value)
    assert message.startswith(f"data.{name}: is ")
    assert message.endswith(f"expected {expected}; found {value}")


def test_units_are_donors_or_else_cells(file: Path) -> None:
    data = data_module(file)
    assert data.units("test") == ["d3"]
    assert data.units("train") == ["d0", "d1", "d2"]
    alone = data_module(file, donor=None, holdout_donors=0.25, validation=0.2)
    train, validation, test = (alone.units(name) for name in ("train", "validation", "test"))
    assert len(test) == 24
    assert sorted([*train, *validation, *test]) == sorted(f"cell{i}" for i in range(96))


def same(a: TokenBatch, b: TokenBatch) -> bool:
    """Whether two batches are equal in every tensor."""
    ours, theirs = a.tensors(), b.tensors()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def epoch(data: CellDataModule, number: int) -> tuple[list[np.ndarray], list[TokenBatch]]:
    """Rows and tokens of the batches of one epoch of a fresh loader."""
    loader = data.train_dataloader()
    sampler: Any = loader.sampler
    sampler.set_epoch(number)
    return [rows for _, rows in sampler], list(loader)


def test_every_cell_once_an_epoch(file: Path) -> None:
    data = data_module(file)
    rows, batches = epoch(data, 0)
    n = len(data.part("train"))
    assert sorted(np.concatenate(rows).tolist()) == list(range(n))
    assert [len(b) for b in batches] == [16] * (n // 16) + [n % 16] * bool(n % 16)
    assert len(data.train_dataloader()) == len(batches)
    whole = data.tokenizer.encode(data.part("train"))
    for chosen, batch in zip(rows, batches, strict=True):
        assert same(batch, whole.take(torch.from_numpy(chosen)))


def test_an_epoch_depends_on_its_number_alone(file: Path) -> None:
    data = data_module(file, train_tokens=8)
    (rows_0, first), (rows_1, other) = epoch(data, 0), epoch(data, 1)
    _, again = epoch(data_module(file, train_tokens=8), 0)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert [r.tolist() for r in rows_0] != [r.tolist() for r in rows_1]
    assert not all(same(a, b) for a, b in zip(first, other, strict=True))
    rows_seed, _ = epoch(data_module(file, train_tokens=8, seed=1, holdout_donors=("d3",)), 0)
    assert [r.tolist() for r in rows_seed] != [r.tolist() for r in rows_0]


def test_training_cells_are_fresh_random_subsets(file: Path) -> None:
    data = data_module(file, train_tokens=8)
    part = data.part("train")
    whole = data.tokenizer.encode(part)
    n_header, chosen = 1 + len(PHENOTYPES), []
    for number in (0, 1):
        rows, batches = epoch(data, number)
        subsets: dict[int, set[tuple[int, int]]] = {}
        for at, batch in zip(rows, batches, strict=True):
            assert batch.input_ids_nt.shape[1] <= n_header + 8 + 1
            for i, row in enumerate(at):
                subsets[int(row)] = gene_tokens(batch, i)
        for row, subset in subsets.items():
            full = gene_tokens(whole, row)
            assert subset <= full and len(subset) == min(8, len(full))
        chosen.append(subsets)
    assert sum(chosen[0][row] != chosen[1][row] for row in chosen[0]) > 0.9 * len(chosen[0])


def gene_tokens(tokens: TokenBatch, row: int) -> set[tuple[int, int]]:
    """(gene, bin id) of one cell."""
    is_gene = tokens.gene_ids_nt[row] >= 0
    genes, bins = tokens.gene_ids_nt[row][is_gene], tokens.input_ids_nt[row][is_gene]
    return set(zip(genes.tolist(), bins.tolist(), strict=True))


def test_evaluation_sees_whole_cells_in_order(file: Path) -> None:
    data = data_module(file, train_tokens=8, validation=0.25)
    for name, loader in (("validation", data.val_dataloader()), ("test", data.test_dataloader())):
        part = data.part(name)
        whole = data.tokenizer.encode(part)
        start = 0
        for batch in loader:
            assert same(batch, whole.take(torch.arange(start, start + len(batch))))
            start += len(batch)
        assert start == len(part) > 0
