"""The vectorised tokenizer against one that takes a cell and a gene at a time."""

from __future__ import annotations

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from gradgene.cells import Cells, CellSchema, cells_from_anndata, log_normalise
from gradgene.commands.benchmark.data_tokenising import tokenise_one_by_one
from gradgene.errors import CellsError, LabelError, TokenError
from gradgene.tokens import CLS, EOS, MASK, PAD, Layout, TokenBatch, Tokenizer, Vocabulary
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


def test_genes_are_matched_by_whichever_name_knows_more() -> None:
    cells = make_cells()
    by_name = make_tokenizer(cells)
    ids = tuple(f"ENSG{i:011d}" for i in (4, 0, 31))
    by_id = Tokenizer(replace(by_name.vocabulary, genes=ids), cells.schema)
    prepared = by_id.prepare(cells)
    expected = log_normalise(cells).matrix_ng.toarray()[:, [4, 0, 31]]
    np.testing.assert_array_equal(prepared.matrix_ng.toarray(), expected)
    assert prepared.genes == prepared.ensembl_ids == ids
    assert prepared.notes[-1] == "3 of the model's 3 genes are in the cells (by Ensembl id)"
    mixed = Tokenizer(replace(by_name.vocabulary, genes=("g1", "g2", ids[0])), cells.schema)
    assert "2 of the model's 3 genes are in the cells (by name)" in mixed.prepare(cells).notes


def test_versions_of_ensembl_ids_do_not_count() -> None:
    cells = make_cells()
    versioned = replace(
        cells,
        genes=tuple(f"{name}.{i}" for i, name in enumerate(cells.ensembl_ids)),
        ensembl_ids=("",) * len(cells.genes),
    )
    wanted = (f"{cells.ensembl_ids[7]}.99", cells.ensembl_ids[2])
    vocabulary = replace(make_tokenizer(cells).vocabulary, genes=wanted)
    prepared = Tokenizer(vocabulary, cells.schema).prepare(versioned)
    expected = log_normalise(cells).matrix_ng.toarray()[:, [7, 2]]
    np.testing.assert_array_equal(prepared.matrix_ng.toarray(), expected)


def test_the_two_copies_of_a_pseudoautosomal_gene_are_two() -> None:
    """As when files are read: without its version the copy on Y keeps its mark."""
    copies = ("ENSG00000182378.15", "ENSG00000182378.15_PAR_Y")
    cells = make_cells(n_genes=20)
    ids = (*copies, *cells.ensembl_ids[2:])
    wanted = ("ENSG00000182378_PAR_Y", "ENSG00000182378.7")
    tokenizer = make_tokenizer(cells)
    by_id = Tokenizer(replace(tokenizer.vocabulary, genes=wanted), cells.schema)
    prepared = by_id.prepare(replace(cells, ensembl_ids=ids))
    expected = log_normalise(cells).matrix_ng.toarray()[:, [1, 0]]
    np.testing.assert_array_equal(prepared.matrix_ng.toarray(), expected)


def test_a_gene_in_two_columns_is_refused() -> None:
    cells = make_cells()
    ids = (*cells.ensembl_ids[:5], f"{cells.ensembl_ids[3]}.2", *cells.ensembl_ids[6:])
    vocabulary = replace(make_tokenizer(cells).vocabulary, genes=cells.ensembl_ids)
    with pytest.raises(TokenError, match=rf"1 genes .* several columns: {cells.ensembl_ids[3]}"):
        Tokenizer(vocabulary, cells.schema).prepare(replace(cells, ensembl_ids=ids))


VALUES = [[0.0, 0.05, 2.0, 0.7], [3.0, 0.0, 0.0, 0.6]]


def tiny(layout: Layout, labels: dict[str, list[object]]) -> tuple[Tokenizer, Cells]:
    """Two cells of four genes; `sex` is f (4) or m (5), or `unknown` (6); bins at 0.5 and 1."""
    genes = ("a", "b", "c", "d")
    schema = CellSchema(("sex",), values="lognorm")
    obs = pd.DataFrame(labels, index=["c0", "c1"], dtype=object)
    matrix_ng = sparse.csr_matrix(np.array(VALUES, dtype=np.float32))
    vocabulary = Vocabulary(
        {"sex": ("f", "m", "unknown")}, ("sex",), genes, (0.5, 1), layout=layout
    )
    return Tokenizer(vocabulary, schema), Cells(matrix_ng, obs, genes, genes, schema)


def test_every_gene_with_attention_off_where_it_is_not_expressed() -> None:
    """[CLS] sex [START] a b c d [END], identity by position; special tokens 0, 9, 1."""
    layout = Layout(end=1, start=9, genes="all", identity="position")
    tokenizer, cells = tiny(layout, {"sex": ["m", "f"]})
    tokens = tokenizer.encode(cells)
    assert tokens.input_ids_nt.tolist() == [[0, 5, 9, 7, 7, 9, 8, 1], [0, 4, 9, 9, 7, 7, 8, 1]]
    assert tokens.token_type_ids_nt.tolist() == [list(range(8))] * 2
    assert tokens.attention_mask_nt.int().tolist() == [
        [1, 1, 1, 0, 0, 1, 1, 1],
        [1, 1, 1, 1, 0, 0, 1, 1],
    ]
    assert tokens.gene_ids_nt.tolist() == [
        [-1, -1, -1, -1, -1, 2, 3, -1],
        [-1, -1, -1, 0, -1, -1, 3, -1],
    ]
    compact = tokens.compact()
    assert compact.input_ids_nt.tolist() == [[0, 5, 9, 9, 8, 1], [0, 4, 9, 9, 8, 1]]
    assert compact.token_type_ids_nt.tolist() == [[0, 1, 2, 5, 6, 7], [0, 1, 2, 3, 6, 7]]
    assert compact.attention_mask_nt.all()
    assert compact.compact() is compact
    for seed in range(20):  # a random gene is one that is expressed
        one = tokenizer.encode(cells, 1, np.random.default_rng(seed))
        assert (one.gene_ids_nt >= 0).sum(dim=1).tolist() == [1, 1]


def test_every_stored_value() -> None:
    tokenizer, cells = tiny(Layout(genes="stored", end=None), {"sex": ["m", "f"]})
    tokens = tokenizer.encode(cells)
    assert unpadded(tokens, 0) == [(0, 0, -1), (5, 1, -1), (7, 3, 1), (9, 4, 2), (8, 5, 3)]
    assert unpadded(tokens, 1) == [(0, 0, -1), (4, 1, -1), (9, 2, 0), (8, 5, 3)]


@pytest.mark.parametrize("max_length", range(2, 7))
@pytest.mark.parametrize("end", [EOS, None])
def test_a_long_cell_is_cut_from_the_right(max_length: int, end: int | None) -> None:
    """As a list cut to its first `max_length` tokens, so that a cut cell has no end token."""
    cells = make_cells(n=8, n_genes=10)
    base = make_tokenizer(cells)
    cells = base.prepare(cells)
    whole = replace(base.vocabulary, layout=Layout(end=end))
    limit = 4 + max_length  # [CLS], three phenotypes
    short = replace(whole, layout=Layout(end=end, max_length=limit))
    expected, found = (Tokenizer(v, cells.schema).encode(cells) for v in (whole, short))
    for row in range(8):
        assert unpadded(found, row) == unpadded(expected, row)[:limit]
    n_genes = sum(len(genes_of(expected, row)) for row in range(8))
    n_left = sum(len(genes_of(found, row)) for row in range(8))
    report = Tokenizer(short, cells.schema).truncation(cells)
    assert (report.n_genes, report.n_dropped) == (n_genes, n_genes - n_left)


def slots(layout: Layout, labels: dict[str, list[object]]) -> list[int]:
    tokenizer, cells = tiny(layout, labels)
    found: list[int] = tokenizer.encode(cells).input_ids_nt[:, 1].tolist()
    return found


def test_what_stands_for_a_missing_label() -> None:
    """The token of `unknown` if there is one, so that readers may call it missing."""
    assert slots(Layout(), {"sex": ["m", np.nan]}) == [5, 6]
    assert slots(Layout(), {"sex": ["unknown", None]}) == [6, 6]
    assert slots(Layout(missing={"sex": 8}), {"sex": ["unknown", np.nan]}) == [6, 8]


def test_what_stands_for_an_absent_column() -> None:
    assert slots(Layout(absent="mask"), {"age": ["1", "2"]}) == [MASK, MASK]
    assert slots(Layout(absent="missing"), {"age": ["1", "2"]}) == [6, 6]
    assert slots(Layout(absent="missing", missing={"sex": 8}), {"age": ["1", "2"]}) == [8, 8]
    with pytest.raises(KeyError, match="sex"):
        slots(Layout(), {"age": ["1", "2"]})


def test_an_anndata_without_an_optional_column() -> None:
    cells = make_cells()
    tokenizer = make_tokenizer(cells)
    adata = make_adata()
    del adata.obs["sex"]
    with pytest.raises(LabelError, match="'sex'"):
        tokenizer(adata)
    lenient = replace(tokenizer.vocabulary, layout=Layout(absent="mask"))
    tokens = Tokenizer(lenient, cells.schema)(adata)
    assert (tokens.input_ids_nt[:, lenient.slot("sex")] == MASK).all()
    assert (tokens.input_ids_nt[:, lenient.slot("disease")] != MASK).all()


def test_an_unknown_label_is_masked_where_the_layout_says_so() -> None:
    assert slots(Layout(unknown_labels="mask"), {"sex": ["m", "x"]}) == [5, MASK]


def test_true_labels_are_positions_among_the_labels() -> None:
    tokenizer, cells = tiny(Layout(), {"sex": ["m", "f"]})
    assert tokenizer.true_labels(cells, "sex").tolist() == [1, 0]
    unlabelled = replace(cells, obs=cells.obs.assign(sex=["m", np.nan]))
    with pytest.raises(TokenError, match="1 cells have no label of 'sex'"):
        tokenizer.true_labels(unlabelled, "sex")


def sparse_study(n: int, n_genes: int, n_expressed: int) -> tuple[ad.AnnData, Tokenizer]:
    """Log-normalised cells of five phenotypes, `n_expressed` genes each."""
    rng = np.random.default_rng(0)
    columns = np.concatenate([np.sort(rng.permutation(n_genes)[:n_expressed]) for _ in range(n)])
    values = rng.gamma(2.0, 1.0, n * n_expressed).astype(np.float32)
    phenotypes = ("disease", "cell_type", "sex", "tissue", "assay")
    labels = {c: rng.choice([f"{c} {i}" for i in range(8)], n) for c in phenotypes}
    genes = [f"g{i}" for i in range(n_genes)]
    adata = ad.AnnData(
        sparse.csr_matrix((values, columns, np.arange(n + 1) * n_expressed), shape=(n, n_genes)),
        obs=pd.DataFrame(labels, index=[f"c{i}" for i in range(n)], dtype="category"),
        var=pd.DataFrame(index=genes),
    )
    schema = CellSchema(phenotypes, values="lognorm")
    cells = cells_from_anndata(adata, schema)
    edges = (0.1, 1.0889, 2.0778, 3.0667, 4.0556, 5.0444, 6.0333, 7.0222, 8.0111, 9.0)
    return adata, Tokenizer(Vocabulary.from_cells(cells, edges), schema)


def test_a_batch_is_its_cells_one_by_one() -> None:
    """The straightforward loop over AnnData slices that `gradgene benchmark data` times."""
    adata, tokenizer = sparse_study(24, 600, 200)
    cells = tokenizer.prepare(cells_from_anndata(adata, tokenizer.schema))
    ours, loop = tokenizer.encode(cells), tokenise_one_by_one(adata, tokenizer)
    for name, tensor in ours.tensors().items():
        assert torch.equal(tensor, loop.tensors()[name]), name
