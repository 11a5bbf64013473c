"""Cells are checked, split by donor and served so that an epoch depends on its number alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gradgene.cells import (
    Cells,
    CellSchema,
    CellShards,
    cells_from_anndata,
    choose_genes,
    log_normalise,
)
from gradgene.errors import CellsError, ConfigError, LabelError
from gradgene.lit import CellDataModule
from gradgene.pairs import PairSampler
from gradgene.tokens import TokenBatch, Tokenizer
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
    monkeypatch.setattr("gradgene.lit.data.CellShards", None)
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


def test_the_batch_is_read_and_nobody_needs_one(tmp_path: Path) -> None:
    adata = make_adata(n=96)
    adata.obs["lane"] = [None, *np.resize(["l1", "l2"], 95)]
    data = data_module(adata, tmp_path, batch="lane")
    data.setup()
    assert data.cells is not None and data.cells.schema.batch == "lane"
    assert len(data.cells) == 96, "a cell of no known batch stays"
    lanes = data.cells.obs["lane"].reindex(adata.obs_names)
    assert lanes.isna().sum() == 1 and lanes.iloc[1:3].tolist() == ["l1", "l2"]
    plan = PairSampler("disease", "case", "control").sample(data.part("train"))
    expected = lanes.astype(object).where(lanes.notna(), None).loc[plan.table["input"]]
    assert plan.table["batch_input"].tolist() == expected.tolist()
    assert "lane" not in data.tokenizer.vocabulary.phenotypes
    assert data.tokenizer(adata[:, :].copy()).input_ids_nt.shape[0] == 96
    del adata.obs["lane"]
    assert len(data.tokenizer(adata)) == 96, "a model reads cells without their batch"


def test_a_batch_column_that_is_not_there(file: Path) -> None:
    with pytest.raises(LabelError, match=r"has no obs column 'lanes'.*study\.batch"):
        data_module(file, batch="lanes").setup()


def test_the_panel_is_chosen_on_training_cells(tmp_path: Path) -> None:
    adata = make_adata(n=96)
    counts = adata.X.toarray()
    test_n = (adata.obs["donor"] == "d3").to_numpy()
    rng = np.random.default_rng(0)
    counts[:, 20], counts[:, 21] = 1, 0
    counts[test_n, 20] = rng.choice([0, 500], test_n.sum())  # varies in held-out cells alone
    counts[test_n, 21] = 30  # is seen in held-out cells alone
    adata.X = type(adata.X)(counts)
    everyone, training = (
        cells_from_anndata(part, CellSchema(PHENOTYPES)) for part in (adata, adata[~test_n].copy())
    )
    assert "g20" in choose_genes(everyone, 10)  # whoever looks at all cells takes it
    data = data_module(adata, tmp_path, genes=10, validation=0.0)
    data.setup()
    assert data.tokenizer.vocabulary.genes == choose_genes(training, 10)
    assert "g20" not in data.tokenizer.vocabulary.genes
    all_seen = data_module(tmp_path / "cells.h5ad", genes=None)
    all_seen.setup()
    assert set(adata.var_names) - set(all_seen.tokenizer.vocabulary.genes) == {"g21"}


def test_genes_of_a_list_that_are_not_found_are_noted(file: Path, tmp_path: Path) -> None:
    panel = tmp_path / "genes.txt"
    panel.write_text("g3\nGAPDH\ng7\nACTB\n")
    data = data_module(file, genes=str(panel))
    data.setup()
    assert data.cells is not None and data.cells.genes == ("g3", "g7")
    assert data.cells.notes[-1].endswith("are not in the cells: GAPDH, ACTB")


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


def test_several_files_are_one_data_set(file: Path, tmp_path: Path) -> None:
    adata = make_adata(n=96)
    for i, rows in enumerate(np.array_split(np.arange(96), 3)):
        adata[rows].copy().write_h5ad(tmp_path / f"part{i}.h5ad")
    whole, parts = data_module(file), data_module(tmp_path / "part*.h5ad")
    both = (list(data.train_dataloader()) for data in (whole, parts))
    assert all(same(a, b) for a, b in zip(*both, strict=True))
    listed = data_module(file, path=tuple(str(tmp_path / f"part{i}.h5ad") for i in range(3)))
    listed.setup()
    assert listed.cells is not None and len(listed.cells) == 96


def test_cells_are_drawn_evenly_and_the_others_are_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = np.resize(["case", "control", "other"], 300)
    read = []
    original = CellShards.read

    def spy(self: CellShards, rows_n: np.ndarray) -> Cells:
        read.append(len(rows_n))
        return original(self, rows_n)

    monkeypatch.setattr(CellShards, "read", spy)
    adata = adata_with(300, disease=third, donor=np.resize(["d0", "d1", "d2", "d3"], 300))
    data = data_module(adata, tmp_path, max_cells=61)
    data.setup()
    assert read == [61]
    assert data.cells is not None
    assert data.cells.counts_of("disease") == {"case": 31, "control": 30}
    assert data.cells.dropped == {"neither input nor baseline": 100, "not drawn": 139}
    assert "data.max_cells=61: drew 31 'case' and 30 'control', evenly over donors" in (
        data.cells.notes
    )
    by_donor = data.cells.obs.groupby(["disease", "donor"]).size()
    assert by_donor.min() >= 7 and by_donor.max() <= 8
    assert data.tokenizer.vocabulary.categories["disease"] == ("case", "control")
    again, other = (data_module(tmp_path / "cells.h5ad", max_cells=61, seed=s) for s in (0, 1))
    for module in (again, other):
        module.setup()
    assert again.cells is not None and other.cells is not None
    assert list(again.cells.obs.index) == list(data.cells.obs.index)
    assert list(other.cells.obs.index) != list(data.cells.obs.index)


def test_more_cells_than_there_are_takes_all_of_both_labels(file: Path) -> None:
    data = data_module(file, max_cells=5000)
    data.setup()
    assert data.cells is not None
    assert len(data.cells) == 96 and data.cells.dropped == {}


def test_validation_donors_are_in_no_other_part(file: Path) -> None:
    data = data_module(file, validation_donors=("d1",), validation=0.5)
    assert [data.units(name) for name in ("train", "validation", "test")] == [
        ["d0", "d2"],
        ["d1"],
        ["d3"],
    ]
    assert data.split.kind == "held-out donors d3; validation donors d1"
    drawn = data_module(file, validation_donors=0.3)
    assert len(drawn.units("validation")) == 1
    assert set(drawn.units("validation")) < {"d0", "d1", "d2"}


def test_validation_donors_need_both_labels(tmp_path: Path) -> None:
    labels = np.resize(["case", "control"], 96)
    donors = np.resize(["d0", "d0", "d1", "d2", "d3", "d3"], 96)
    adata = adata_with(disease=labels, donor=donors)
    message = failure(data_module(adata, tmp_path, validation_donors=("d1",)))
    assert "the validation cells have the one label 'case'" in message
    assert "change data.validation_donors" in message


def test_missing_labels_are_masked_tokens(tmp_path: Path) -> None:
    adata = make_adata(n=96)
    sex = adata.obs["sex"].astype(object)
    sex.iloc[::3] = "unknown"
    adata.obs["sex"] = sex
    data = data_module(adata, tmp_path)
    data.setup()
    vocabulary = data.tokenizer.vocabulary
    assert vocabulary.categories["sex"] == ("female", "male")
    tokens = data.tokenizer.encode(data.part("train"))
    masked = tokens.input_ids_nt[:, vocabulary.slot("sex")] == vocabulary.mask_id
    assert masked.tolist() == data.part("train").obs["sex"].isna().tolist()
    assert data.cells is not None
    assert "32 of 96 cells have no label in 'sex' (unknown, empty or NaN)" in data.cells.notes


def test_bins_as_the_configuration_says(file: Path) -> None:
    cases: list[tuple[dict[str, Any], tuple[float, ...], int | None]] = [
        ({"binning": "equal", "bin_edges": (1.0, 5.0), "n_bins": 5}, (1, 2, 3, 4, 5), None),
        ({"binning": "quantile", "bin_edges": (0.5,), "n_bins": 4}, (0.5,), 4),
    ]
    for facts, edges, quantiles in cases:
        data = data_module(file, **facts)
        data.setup()
        assert data.tokenizer.vocabulary.bin_edges == edges
        assert data.tokenizer.vocabulary.quantile_bins == quantiles
        assert len(list(data.train_dataloader())) > 0


def test_batches_by_tokens_see_every_cell_once(file: Path) -> None:
    data = data_module(file, batch_tokens=400, validation=0.25)
    for number in (0, 1):
        rows, batches = epoch(data, number)
        part = data.part("train")
        assert sorted(np.concatenate(rows).tolist()) == list(range(len(part)))
        assert all(batch.input_ids_nt.numel() <= 400 for batch in batches)
        assert len(data.train_dataloader()) == len(batches)
        whole = data.tokenizer.encode(part)
        for chosen, batch in zip(rows, batches, strict=True):
            expected = whole.take(torch.from_numpy(chosen))
            n = batch.input_ids_nt.shape[1]
            assert torch.equal(batch.input_ids_nt, expected.input_ids_nt[:, :n])
    loader = data.val_dataloader()
    sampler: Any = loader.sampler
    order = np.concatenate([rows for _, rows in sampler])
    lengths_n = data.tokenizer.encode(data.part("validation")).n_tokens_n.numpy()
    served_n = torch.cat([batch.n_tokens_n for batch in loader]).numpy()
    np.testing.assert_array_equal(served_n, lengths_n[order])  # results can be put back in order
    assert sorted(order.tolist()) == list(range(len(lengths_n)))


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
        ("batch_tokens", 0, "1 or more"),
        ("max_cells", 1, "2 or more"),
        ("validation_donors", 1.0, "in [0, 1)"),
    ],
)
def test_numbers_out_of_range(file: Path, name: str, value: float, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        data_module(file, None, **{name: value})
    message = str(caught.value)
    assert message.startswith(f"data.{name}: is ")
    assert message.endswith(f"expected {expected}; found {value}")


def test_what_the_layout_leaves_out_of_a_cell_is_counted(file: Path) -> None:
    whole = data_module(file, train_tokens=3)
    whole.setup()
    assert not whole.truncation(), "a limit of training alone"
    vocabulary = whole.tokenizer.vocabulary
    layout = replace(vocabulary.layout, max_length=vocabulary.n_header + 3)
    data = data_module(file)
    data.use_tokenizer(Tokenizer(replace(vocabulary, layout=layout), whole.schema))
    found = data.truncation()
    for name in ("train", "test"):
        tokens = whole.tokenizer.encode(whole.part(name))
        n_n = (tokens.gene_ids_nt >= 0).sum(dim=1).numpy()
        assert found[name].n_cut == int((n_n > 3).sum()) > 0
        assert found[name].n_dropped == int((n_n - 3).clip(min=0).sum())


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
