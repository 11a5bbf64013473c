"""The vectorised tokenizer against one that takes a cell and a gene at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from gradgene.cells import Cells, CellSchema, log_normalise
from gradgene.errors import CellsError, LabelError, TokenError
from gradgene.tokens import CLS, EOS, MASK, PAD, TokenBatch, Tokenizer, Vocabulary
from tests.planted import make_adata, make_cells, make_tokenizer

Token = tuple[int, int, int]  # input id, token type, gene


def slow_tokens(tokenizer: Tokenizer, cells: Cells, row: int) -> list[Token]:
    """The tokens of one cell, straight from the format page."""
    vocabulary = tokenizer.vocabulary
    tokens = [(CLS, 0, -1)]
    for category in vocabulary.phenotypes:
        label = cells.obs[category].iloc[row]
        known = isinstance(label, str)
        token = vocabulary.label_id(category, label) if known else MASK
        tokens.append((token, 1 + sorted(vocabulary.categories).index(category), -1))
    values = cells.matrix_ng.toarray()[row]
    for gene, value in enumerate(values):
        level = sum(value >= edge for edge in vocabulary.bin_edges)
        if level > 0:
            tokens.append(
                (vocabulary.bin_offset + level, 1 + len(vocabulary.categories) + gene, gene)
            )
    return [*tokens, (EOS, 0, -1)]


def unpadded(tokens: TokenBatch, row: int) -> list[Token]:
    """The tokens of one row of a batch, after checking that only padding follows."""
    n = int(tokens.attention_mask_nt[row].sum())
    assert tokens.attention_mask_nt[row, :n].all()
    assert (tokens.input_ids_nt[row, n:] == PAD).all()
    assert (tokens.token_type_ids_nt[row, n:] == 0).all()
    assert (tokens.gene_ids_nt[row, n:] == -1).all()
    columns = (tokens.input_ids_nt, tokens.token_type_ids_nt, tokens.gene_ids_nt)
    return list(zip(*(column[row, :n].tolist() for column in columns), strict=True))


def genes_of(tokens: TokenBatch, row: int) -> list[int]:
    return [gene for _, _, gene in unpadded(tokens, row) if gene >= 0]


matrices = st.integers(1, 6).flatmap(
    lambda n_genes: st.lists(
        st.lists(
            st.sampled_from([0.0, 0.0, 0.05, 0.1, 0.7, 1.0, 1.5, 2.0, 7.5]),
            min_size=n_genes,
            max_size=n_genes,
        ),
        min_size=1,
        max_size=5,
    )
)


@given(matrix=matrices, sort=st.booleans(), data=st.data())
def test_equals_the_slow_tokenizer(
    matrix: list[list[float]], sort: bool, data: st.DataObject
) -> None:
    values_ng = np.array(matrix, dtype=np.float32)
    n, n_genes = values_ng.shape
    labels = st.lists(st.sampled_from(["f", "m", np.nan]), min_size=n, max_size=n)
    obs = pd.DataFrame({"sex": data.draw(labels), "age": data.draw(labels)}, dtype=object)
    matrix_ng = sparse.csr_matrix(values_ng)
    if not sort:  # a legal CSR whose columns are in reverse order
        backwards = np.concatenate([np.flatnonzero(row)[::-1] for row in values_ng])
        values = np.concatenate([row[row != 0][::-1] for row in values_ng])
        matrix_ng = sparse.csr_matrix((values, backwards, matrix_ng.indptr), shape=(n, n_genes))
    genes = tuple(f"g{i}" for i in range(n_genes))
    schema = CellSchema(("sex", "age"), values="lognorm")
    cells = Cells(matrix_ng, obs, genes, ("",) * n_genes, schema)
    vocabulary = Vocabulary(
        {"sex": ("m", "f"), "age": ("f", "m"), "unused": ("x",)},
        ("sex", "age"),
        genes,
        (0.1, 1.0, 2.0),
    )
    tokenizer = Tokenizer(vocabulary, schema)
    tokens = tokenizer.encode(cells)
    slow = [slow_tokens(tokenizer, cells, row) for row in range(n)]
    assert [unpadded(tokens, row) for row in range(n)] == slow
    assert tokens.input_ids_nt.shape == (n, max(map(len, slow)))
    assert tokens.n_tokens_n.tolist() == [len(cell) for cell in slow]


@pytest.mark.parametrize("run", ["all", "subset"])
def test_tokens_of_the_released_tokenizer(run: str, shared: Path) -> None:
    folder = shared / "fixtures" / "perturbgene"
    expected = json.loads((folder / "expected_vocab.json").read_text())
    labels = json.loads((folder / "run" / "phenotypic_tokens_map.json").read_text())
    golden = np.load(folder / "expected.npz")
    phenotypes = expected["included_phenotypes"]["run" if run == "all" else "run_subset"]
    adata = ad.read_h5ad(folder / "cells.h5ad")
    for category in phenotypes:
        adata.obs[category] = [
            "[" + str(value).replace(" ", "_").strip() + "]" for value in adata.obs[category]
        ]
    tokenizer = Tokenizer(
        Vocabulary(
            labels, tuple(phenotypes), tuple(expected["gene_order"]), tuple(expected["bin_edges"])
        ),
        CellSchema(tuple(phenotypes), values="lognorm"),
    )
    tokens = tokenizer(adata)
    assert len(tokens) == 12
    for row in range(12):
        ids, types, _ = zip(*unpadded(tokens, row), strict=True)
        assert list(ids) == golden[f"{run}/tokens/{row}/input_ids"].tolist()
        assert list(types) == golden[f"{run}/tokens/{row}/token_type_ids"].tolist()


@given(max_genes=st.integers(1, 50), seed=st.integers(0, 100))
def test_random_subset_is_a_seeded_subset(max_genes: int, seed: int) -> None:
    cells = make_cells(n=10)
    tokenizer = make_tokenizer(cells)
    cells = tokenizer.prepare(cells)
    whole = tokenizer.encode(cells)
    part, again = (
        tokenizer.encode(cells, max_genes, np.random.default_rng(seed)) for _ in range(2)
    )
    for row in range(10):
        assert set(unpadded(part, row)) <= set(unpadded(whole, row))
        assert len(genes_of(part, row)) == min(max_genes, len(genes_of(whole, row)))
        assert genes_of(part, row) == sorted(genes_of(part, row))
        assert unpadded(part, row) == unpadded(again, row)


def test_random_subset_is_fresh_and_uniform() -> None:
    """3 of 10 genes, 3,000 times: each gene about 900 times (standard deviation 25)."""
    values_ng = sparse.csr_matrix(np.ones((3000, 10), dtype=np.float32))
    obs = pd.DataFrame({"sex": ["f"] * 3000}, dtype=object)
    genes = tuple(f"g{i}" for i in range(10))
    schema = CellSchema(("sex",), values="lognorm")
    tokenizer = Tokenizer(Vocabulary({"sex": ("f",)}, ("sex",), genes, (0.5,)), schema)
    tokens = tokenizer.encode(
        Cells(values_ng, obs, genes, genes, schema), 3, np.random.default_rng(0)
    )
    gene = tokens.gene_ids_nt[tokens.gene_ids_nt >= 0]
    counts = torch.bincount(gene, minlength=10)
    assert counts.sum() == 9000
    assert (counts - 900).abs().max() < 150
    assert len({tuple(genes_of(tokens, row)) for row in range(3000)}) == 120  # all 10 over 3


def test_missing_label_becomes_mask() -> None:
    cells = make_cells()
    tokenizer = make_tokenizer(cells)
    labels = cells.obs["sex"].to_numpy(dtype=object).copy()
    labels[[2, 5]] = np.nan
    tokens = tokenizer(replace(cells, obs=cells.obs.assign(sex=labels)))
    masked = tokens.input_ids_nt[:, tokenizer.vocabulary.slot("sex")] == MASK
    assert masked.nonzero().flatten().tolist() == [2, 5]


def test_unknown_label_is_an_error() -> None:
    cells = make_cells()
    tokenizer = make_tokenizer(cells)
    other = replace(cells, obs=cells.obs.assign(sex="femal"))
    with pytest.raises(TokenError, match=r"'femal' of 'sex' is not.*'female'"):
        tokenizer(other)


def test_anndata_rows_keep_their_order() -> None:
    cells = make_cells()
    tokenizer = make_tokenizer(cells)
    rows = [7, 3, 51]
    tokens = tokenizer(make_adata()[rows])
    logged = log_normalise(cells)
    assert [unpadded(tokens, i) for i in range(3)] == [
        slow_tokens(tokenizer, logged, row) for row in rows
    ]


def test_anndata_with_all_zero_cells_is_refused() -> None:
    tokenizer = make_tokenizer(make_cells())
    with pytest.raises(TokenError, match="2 cells are all-zero"):
        tokenizer(make_adata(empty=2))
    with pytest.raises(LabelError, match="'disease'"):
        tokenizer(ad.AnnData(make_adata().X))
    adata = make_adata()
    adata.X = adata.X * 0.5
    with pytest.raises(CellsError, match="not whole numbers"):
        tokenizer(adata)


def test_prepare_reorders_and_inserts_absent_genes() -> None:
    cells = make_cells()
    vocabulary = Vocabulary.from_cells(cells, (0.1,))
    genes = ("g4", "absent", "g1", "g30", "also absent")
    tokenizer = Tokenizer(replace(vocabulary, genes=genes), cells.schema)
    prepared = tokenizer.prepare(cells)
    expected = np.zeros((60, 5), dtype=np.float32)
    expected[:, [0, 2, 3]] = log_normalise(cells).matrix_ng.toarray()[:, [4, 1, 30]]
    np.testing.assert_array_equal(prepared.matrix_ng.toarray(), expected)
    assert prepared.genes == genes
    assert prepared.ensembl_ids == tuple(f"ENSG{i:011d}" if i else "" for i in (4, 0, 1, 30, 0))
    assert tokenizer.prepare(prepared) is prepared
    tokens = tokenizer.encode(prepared)
    assert [unpadded(tokens, row) for row in range(60)] == [
        slow_tokens(tokenizer, prepared, row) for row in range(60)
    ]


def test_prepare_leaves_the_cells_alone() -> None:
    cells = log_normalise(make_cells())
    before = cells.matrix_ng.copy()
    vocabulary = Vocabulary.from_cells(cells, (0.1,))
    tokenizer = Tokenizer(replace(vocabulary, genes=cells.genes[::-1]), cells.schema)
    tokenizer.prepare(cells)
    np.testing.assert_array_equal(cells.matrix_ng.toarray(), before.toarray())


def test_prepare_needs_a_known_gene() -> None:
    cells = make_cells()
    vocabulary = replace(Vocabulary.from_cells(cells, (0.1,)), genes=("TP53", "MYC"))
    with pytest.raises(TokenError, match=r"no gene.*TP53, MYC; found g0, g1, g2.*data.gene_key"):
        Tokenizer(vocabulary, cells.schema).prepare(cells)


def test_encode_takes_prepared_cells_only() -> None:
    cells = make_cells()
    tokenizer = make_tokenizer(cells)
    for wrong in (cells, log_normalise(cells).with_genes(cells.genes[::-1])):
        with pytest.raises(TokenError, match="not prepared"):
            tokenizer.encode(wrong)


def test_no_cells_make_an_empty_batch() -> None:
    cells = make_cells()
    tokenizer = make_tokenizer(cells)
    assert len(tokenizer(cells.take(np.zeros(0, dtype=int)))) == 0
