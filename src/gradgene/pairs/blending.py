"""Gene blending: an input and a baseline cell aligned on the union of their genes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gradgene.errors import PairError
from gradgene.tokens import TokenBatch

__all__ = ["BlendedBatch", "blend"]

#: Above any gene index: marks positions without a gene while sorting.
NO_GENE = 1 << 40


@dataclass(frozen=True)
class BlendedBatch:
    """Pairs of cells laid out on common positions `[CLS] phenotypes union-of-genes [EOS]`.

    A position whose gene one member lacks holds `[PAD]` with attention off in that member.

    Attributes
    ----------
    cells
        The distinct cells, compact and unpadded-inside, that the pairs are made of.
    input_rows_p, baseline_rows_p
        int64: which row of `cells` each member is.
    input_columns_pt, baseline_columns_pt
        int64: the column of `cells` shown at each position; -1 where the member has no token.
    gene_ids_pt
        int64: gene index at each position; -1 for phenotypes, special tokens and padding.
    input, baseline
        The members as token batches.
    blank_pt
        bool: where the embedding of the baseline is zero in place of its token's; None for nowhere.
    """

    cells: TokenBatch
    input_rows_p: Tensor
    baseline_rows_p: Tensor
    input_columns_pt: Tensor
    baseline_columns_pt: Tensor
    gene_ids_pt: Tensor
    input: TokenBatch
    baseline: TokenBatch
    blank_pt: Tensor | None = None

    def __post_init__(self) -> None:
        for member in (self.input, self.baseline):
            if member.input_ids_nt.shape != self.gene_ids_pt.shape:
                raise PairError("members and gene ids differ in shape")

    def __len__(self) -> int:
        return self.gene_ids_pt.shape[0]

    @property
    def n_header(self) -> int:
        """Number of positions before the first gene: `[CLS]` and the phenotypes."""
        return _n_header(self.cells)

    def swap(self) -> BlendedBatch:
        """The same pairs with the roles of input and baseline exchanged.

        Raises `PairError` where the baseline is zero in places: no cell can take that role.
        """
        if self.blank_pt is not None:
            raise PairError("a zero baseline cannot become the input")
        return replace(
            self,
            input_rows_p=self.baseline_rows_p,
            baseline_rows_p=self.input_rows_p,
            input_columns_pt=self.baseline_columns_pt,
            baseline_columns_pt=self.input_columns_pt,
            input=self.baseline,
            baseline=self.input,
        )

    def without_baseline_genes(self) -> BlendedBatch:
        """Each input against its own phenotypes with every gene absent (the empty baseline)."""
        is_gene_pt = self.gene_ids_pt >= 0
        columns_pt = self.input_columns_pt.masked_fill(is_gene_pt, -1)
        return replace(
            self,
            baseline_rows_p=self.input_rows_p,
            baseline_columns_pt=columns_pt,
            baseline=show(self.cells, self.input_rows_p, columns_pt),
        )

    def with_blank_genes(self) -> BlendedBatch:
        """Each input against itself with the embedding of every gene zero (the zero baseline)."""
        return replace(
            self,
            baseline_rows_p=self.input_rows_p,
            baseline_columns_pt=self.input_columns_pt,
            baseline=self.input,
            blank_pt=(self.gene_ids_pt >= 0) & self.input.attention_mask_nt,
        )

    def with_cells(self, cells: TokenBatch) -> BlendedBatch:
        """The same pairs over changed tokens of the same layout, such as a masked category."""
        return replace(
            self,
            cells=cells,
            input=show(cells, self.input_rows_p, self.input_columns_pt),
            baseline=show(cells, self.baseline_rows_p, self.baseline_columns_pt),
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> BlendedBatch:
        """The same pairs on another device."""
        moved: dict[str, Any] = {
            name: None if value is None else value.to(device, non_blocking=non_blocking)
            for name, value in vars(self).items()
        }
        return BlendedBatch(**moved)

    def clone(self) -> BlendedBatch:
        """A copy in memory of its own: outside inference mode, one that autograd can work with."""
        copied: dict[str, Any] = {
            name: None if value is None else value.clone() for name, value in vars(self).items()
        }
        return BlendedBatch(**copied)


def blend(tokens: TokenBatch, input_rows: Tensor, baseline_rows: Tensor) -> BlendedBatch:
    """Align pairs of cells on the union of their genes.

    Union order is shared, input-only, baseline-only genes, each block by gene index.

    Parameters
    ----------
    tokens
        Cells, all with the same number of tokens before the first gene; what is not attended to is
        left out.
    input_rows, baseline_rows
        (pairs,) int64 positions in `tokens`.

    Raises
    ------
    PairError
        If the two differ in length or the cells differ in their phenotype slots.
    """
    input_rows = torch.as_tensor(input_rows, dtype=torch.int64, device=tokens.input_ids_nt.device)
    baseline_rows = torch.as_tensor(baseline_rows, dtype=torch.int64, device=input_rows.device)
    if input_rows.shape != baseline_rows.shape or input_rows.ndim != 1:
        raise PairError(
            "every input needs one baseline",
            expected="two vectors of one length",
            found=f"{tuple(input_rows.shape)} and {tuple(baseline_rows.shape)}",
        )
    tokens = tokens.compact()
    header = _n_header(tokens)
    genes_pu, input_pu, baseline_pu = _join(
        tokens.gene_ids_nt[input_rows], tokens.gene_ids_nt[baseline_rows]
    )
    n_union_p = (genes_pu >= 0).sum(dim=1)
    n_tail_n = _n_tail(tokens, header)
    input_columns = _place(tokens, input_rows, input_pu, n_union_p, header, n_tail_n)
    baseline_columns = _place(tokens, baseline_rows, baseline_pu, n_union_p, header, n_tail_n)
    gene_ids_pt = torch.full_like(input_columns, -1)
    gene_ids_pt[:, header : header + genes_pu.shape[1]] = genes_pu
    return BlendedBatch(
        cells=tokens,
        input_rows_p=input_rows,
        baseline_rows_p=baseline_rows,
        input_columns_pt=input_columns,
        baseline_columns_pt=baseline_columns,
        gene_ids_pt=gene_ids_pt,
        input=show(tokens, input_rows, input_columns),
        baseline=show(tokens, baseline_rows, baseline_columns),
    )


def show(cells: TokenBatch, rows_p: Tensor, columns_pt: Tensor) -> TokenBatch:
    """The tokens at `columns_pt` (pairs, positions) of `cells[rows_p]`, padding where -1."""
    absent_pt = columns_pt < 0
    at = (rows_p[:, None], columns_pt.clamp(min=0))
    return TokenBatch(
        input_ids_nt=cells.input_ids_nt[at].masked_fill(absent_pt, cells.pad_id),
        token_type_ids_nt=cells.token_type_ids_nt[at].masked_fill(absent_pt, 0),
        attention_mask_nt=~absent_pt,
        gene_ids_nt=cells.gene_ids_nt[at].masked_fill(absent_pt, -1),
        pad_id=cells.pad_id,
    )


def _n_header(tokens: TokenBatch) -> int:
    is_gene_nt = tokens.gene_ids_nt >= 0
    has_gene_n = is_gene_nt.any(dim=1)
    if not bool(has_gene_n.all()):
        raise PairError(f"{int((~has_gene_n).sum())} cells express no gene of the vocabulary")
    first_n = is_gene_nt.to(torch.int8).argmax(dim=1)
    if int(first_n.min()) != int(first_n.max()):
        raise PairError("cells differ in their number of phenotype tokens")
    return int(first_n[0])


def _join(gene_a_pt: Tensor, gene_b_pt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Union of two rows of gene ids: (genes, column in a, column in b), each (pairs, union)."""
    n_a = gene_a_pt.shape[1]
    both = torch.cat([gene_a_pt, gene_b_pt], dim=1)
    # Stable: where both members have a gene, the input's column comes right before the baseline's.
    gene, column = torch.sort(both.masked_fill(both < 0, NO_GENE), dim=1, stable=True)
    after = torch.cat([gene[:, 1:], torch.full_like(gene[:, :1], NO_GENE + 1)], dim=1)
    column_after = torch.cat([column[:, 1:], column[:, :1]], dim=1)
    first = torch.ones_like(gene, dtype=torch.bool)
    first[:, 1:] = gene[:, 1:] != gene[:, :-1]
    in_a = column < n_a
    shared = in_a & (gene == after)
    column_a = torch.where(in_a, column, -1)
    column_b = torch.where(shared, column_after - n_a, torch.where(in_a, -1, column - n_a))
    block = torch.where(shared, 0, torch.where(in_a, 1, 2))
    real = first & (gene < NO_GENE)
    key = torch.where(real, block * NO_GENE + gene, 4 * NO_GENE)
    order = torch.argsort(key, dim=1)[:, : int(real.sum(dim=1).max())]
    kept = real.gather(1, order)
    return (
        gene.gather(1, order).masked_fill(~kept, -1),
        column_a.gather(1, order).masked_fill(~kept, -1),
        column_b.gather(1, order).masked_fill(~kept, -1),
    )


def _n_tail(tokens: TokenBatch, header: int) -> Tensor:
    """(cells,) number of tokens behind the genes: 1 with `[EOS]`, 0 without or in a cut cell."""
    return tokens.n_tokens_n - header - (tokens.gene_ids_nt >= 0).sum(dim=1)


def _place(
    tokens: TokenBatch,
    rows_p: Tensor,
    columns_pu: Tensor,
    n_union_p: Tensor,
    header: int,
    n_tail_n: Tensor,
) -> Tensor:
    """Columns of the whole blended sequence: header, union, then whatever follows the genes."""
    n_tail = int(n_tail_n.max())
    n_genes_p = (tokens.gene_ids_nt[rows_p] >= 0).sum(dim=1)
    p, n_union = columns_pu.shape
    placed = torch.full(
        (p, header + n_union + n_tail), -1, dtype=torch.int64, device=columns_pu.device
    )
    placed[:, :header] = torch.arange(header, device=placed.device)
    placed[:, header : header + n_union] = columns_pu
    for k in range(n_tail):
        column_p = (header + n_genes_p + k).masked_fill(n_tail_n[rows_p] <= k, -1)
        placed[torch.arange(p), header + n_union_p + k] = column_p
    return placed
