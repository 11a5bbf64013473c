"""Many cuts of one cell by one order of genes, through a model of two blocks together.

What the first block attends with (queries, keys, values, the exponentials of their products) is of
the tokens alone and the same in every cut: a cut leaves keys out of two sums, Σ exp(q·k) v and
Σ exp(q·k). Cuts by one order are nested, so that these sums grow from the smallest cut to the
largest and are taken once for all of them, at the cost of one. The rest of the first block is done
for the tokens of all cuts in one list without padding, few enough at a time to stay in the cache;
of the second block one slot is read. Results are the model's to rounding (tested).

With more blocks less of the work is shared; on a graphics processor large batches are faster.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradgene.models import PhenotypeGeneTransformer
from gradgene.models.attention import AttentionCore, MultiHeadAttention
from gradgene.models.block import Block
from gradgene.pruning.cutting import CellCuts, Cuts

__all__ = ["nested_groups", "read_nested"]

#: Cuts of a cell by an order that are worth it.
LEAST_CUTS = 3
#: Entries of the matrix of exponentials at most.
MOST_PRODUCTS = 1 << 26
#: Rows done at a time, whose states fit in a processor's cache.
ROWS = 1024
#: Smallest sum of exponentials, relative to the largest of all, that still has its digits.
LEAST_SUM = 1e-25


def nested_groups(model: PhenotypeGeneTransformer, cells: CellCuts, cuts: Cuts) -> list[Tensor]:
    """Positions of the cuts that `read_nested` is faster for, in groups of one cell and order."""
    if not _can_nest(model, cells) or not len(cuts):
        return []
    key_v = cuts.row_v * len(cells.place_og) + cuts.order_v
    by_key = torch.argsort(key_v, stable=True)
    _, counts = key_v[by_key].unique_consecutive(return_counts=True)
    n_heads = model.size["n_heads"]
    longest_n = cells.tokens.n_tokens_n
    return [
        group
        for group in torch.split(by_key, counts.tolist())
        if len(group) >= LEAST_CUTS
        and n_heads * int(longest_n[cuts.row_v[group[0]]]) ** 2 <= MOST_PRODUCTS
    ]


def _can_nest(model: PhenotypeGeneTransformer, cells: CellCuts) -> bool:
    blocks = [*getattr(model, "blocks", ())]
    plain = all(
        isinstance(block, Block)
        and type(block.attention.core) is AttentionCore
        and "forward" not in vars(block.attention.core)
        for block in blocks
    )
    weights = next(model.parameters())
    precise = weights.dtype in (torch.float32, torch.float64)
    here = weights.device.type == "cpu" and cells.removal == "delete"
    return len(blocks) == 2 and plain and precise and here


def read_nested(
    model: PhenotypeGeneTransformer, cells: CellCuts, cuts: Cuts, category: str
) -> Tensor:
    """Logits (cuts, input ids) for the label of `category`, as `PhenotypeGeneTransformer.read`.

    Parameters
    ----------
    model
        Of two blocks, in evaluation mode, on the CPU.
    cells
        With the category masked.
    cuts
        Of one cell by one order. Each leaves the first or the last genes of the order.
    """
    tokens, row = cells.tokens, cuts.row_v[:1]
    whole = tokens.take(row)
    genes_t = whole.gene_ids_nt[0]
    place_t = cells.place_og[cuts.order_v[0]].long()[genes_t.clamp(min=0)]
    # What is no gene comes first and is in every cut, then the genes in their order.
    place_t, at_t = torch.sort(place_t.masked_fill(genes_t < 0, -1), stable=True)
    spans = _Spans.of(place_t, cuts)
    x_td = model.embed(whole)[0, at_t]
    first, last = model.blocks
    assert isinstance(first, Block) and isinstance(last, Block)  # as `nested_groups` made sure
    read_td = first.sa_layer_norm(x_td) if first.norm_first else x_td
    attended_rd = _attend(first.attention, read_td, spans)
    if attended_rd is None:
        shown = cells.show(cuts)
        return model.read(model.embed(shown), shown.attention_mask_nt, category)
    rows_r = spans.rows()
    x_rd = torch.cat(
        [
            _after(first, x_td[rows], attended)
            for rows, attended in zip(rows_r.split(ROWS), attended_rd.split(ROWS), strict=True)
        ]
    )
    classified = category == model.classified
    slot = 0 if classified else model.vocabulary.slot(category)
    hidden_vd: Tensor = model.final_norm(_read_slot(last, x_rd, spans, slot))
    if not classified:
        return model.head(hidden_vd)
    ids_c = torch.tensor(model.vocabulary.label_ids(category))
    blank_vv = hidden_vd.new_zeros(len(hidden_vd), model.vocabulary.n_values)
    return blank_vv.index_copy(1, ids_c, model.classifier(hidden_vd))


@dataclass(frozen=True)
class _Spans:
    """Which of the ordered tokens are in each cut: the header, and those from low to high - 1."""

    n: int
    n_header: int
    low_v: list[int]
    high_v: list[int]

    @classmethod
    def of(cls, place_t: Tensor, cuts: Cuts) -> _Spans:
        n_header = int((place_t < 0).sum())
        low_v, high_v = (
            torch.searchsorted(place_t, bound_v.contiguous()).clamp(min=n_header).tolist()
            for bound_v in (cuts.low_v, cuts.high_v)
        )
        return cls(len(place_t), n_header, low_v, high_v)

    @property
    def length_v(self) -> Tensor:
        """(cuts,) int64: tokens of each cut."""
        return torch.tensor(self.high_v) - torch.tensor(self.low_v) + self.n_header

    @property
    def stop_v(self) -> Tensor:
        """(cuts,) int64: where each cut ends in the list of the tokens of all."""
        return self.length_v.cumsum(0)

    def rows(self) -> Tensor:
        """(list,) int64: which of the ordered tokens each entry of the list is."""
        every_t = torch.arange(self.n)
        header = every_t[: self.n_header]
        spans = zip(self.low_v, self.high_v, strict=True)
        return torch.cat([part for low, high in spans for part in (header, every_t[low:high])])


def _attend(attention: MultiHeadAttention, read_td: Tensor, spans: _Spans) -> Tensor | None:
    """(list, dim) what the tokens of all cuts attend to, before `out_lin`.

    None where the sums would lose their digits, or a cut leaves neither the first nor the last.
    """
    n, d = read_td.shape
    h, header = attention.n_heads, spans.n_header
    q_htd, k_htd, v_htd = (
        lin(read_td).view(n, h, d // h).transpose(0, 1)
        for lin in (attention.q_lin, attention.k_lin, attention.v_lin)
    )
    p_htt = torch.bmm(q_htd * (d // h) ** -0.5, k_htd.transpose(1, 2))
    p_htt.sub_(p_htt.amax(dim=2, keepdim=True)).exp_()
    # A further value that is 1 everywhere sums the exponentials themselves.
    v_hte = torch.cat([v_htd, v_htd.new_ones(h, n, 1)], dim=2)
    of_header_hte = torch.bmm(p_htt[:, :, :header], v_hte[:, :header])
    lows, highs = spans.low_v, spans.high_v
    best = sorted((i for i in range(len(lows)) if lows[i] == header), key=lambda i: highs[i])
    rest = sorted(set(range(len(lows))) - set(best), key=lambda i: -lows[i])
    if float(of_header_hte[..., -1].min()) < LEAST_SUM or any(highs[i] != n for i in rest):
        return None
    stops = spans.stop_v.tolist()
    out_rd = read_td.new_empty(stops[-1], d)
    sums_hte, done = of_header_hte.clone(), header
    for i in best:
        if highs[i] > done:
            added = slice(done, highs[i])
            sums_hte.baddbmm_(p_htt[:, :, added], v_hte[:, added])
            done = highs[i]
        out_rhd = out_rd[stops[i] - highs[i] : stops[i]].view(-1, h, d // h)
        _divide(sums_hte[:, : highs[i]], out_rhd)
    sums_hte, done = of_header_hte, n
    for i in rest:
        if lows[i] < done:
            added = slice(lows[i], done)
            sums_hte.baddbmm_(p_htt[:, :, added], v_hte[:, added])
            done = lows[i]
        start = stops[i] - (n - lows[i]) - header
        out_rhd = out_rd[start : stops[i]].view(-1, h, d // h)
        _divide(sums_hte[:, :header], out_rhd[:header])
        _divide(sums_hte[:, lows[i] :], out_rhd[header:])
    return out_rd


def _divide(sums_hte: Tensor, out_thd: Tensor) -> None:
    """Write the quotients of the sums, tokens first."""
    torch.div(sums_hte[..., :-1], sums_hte[..., -1:], out=out_thd.transpose(0, 1))


def _after(block: Block, x_rd: Tensor, attended_rd: Tensor) -> Tensor:
    """What a block makes of states and of what they attend to; see `Block.forward`."""
    x_rd = x_rd + block.attention.out_lin(attended_rd)
    if not block.norm_first:
        x_rd = block.sa_layer_norm(x_rd)
    fed_rd = block.output_layer_norm(x_rd) if block.norm_first else x_rd
    out_rd: Tensor = x_rd + block.lin2(block.activation(block.lin1(fed_rd)))
    return out_rd if block.norm_first else block.output_layer_norm(out_rd)


def _read_slot(block: Block, x_rd: Tensor, spans: _Spans, slot: int) -> Tensor:
    """(cuts, dim) the last block's output at one slot of every cut."""
    attention, d = block.attention, x_rd.shape[1]
    h, length_v = attention.n_heads, spans.length_v
    which_r = torch.repeat_interleave(torch.arange(len(length_v)), length_v)
    x_vd = x_rd[spans.stop_v - length_v + slot]
    query_vd = block.sa_layer_norm(x_vd) if block.norm_first else x_vd
    q_vd = attention.q_lin(query_vd) * (d // h) ** -0.5
    products, values = [], []
    for which, x_sd in zip(which_r.split(ROWS), x_rd.split(ROWS), strict=True):
        read_sd = block.sa_layer_norm(x_sd) if block.norm_first else x_sd
        products.append((attention.k_lin(read_sd) * q_vd[which]).view(-1, h, d // h).sum(dim=-1))
        values.append(attention.v_lin(read_sd))
    there_vt = torch.arange(int(length_v.max())) < length_v[:, None]
    padded_vth = x_rd.new_full((*there_vt.shape, h), -torch.inf)
    padded_vth[there_vt] = torch.cat(products)
    weight_rh = padded_vth.softmax(dim=1)[there_vt]
    weighted_rd = (torch.cat(values).view(-1, h, d // h) * weight_rh[..., None]).view(-1, d)
    attended_vd = torch.zeros_like(x_vd).index_add_(0, which_r, weighted_rd)
    return _after(block, x_vd, attended_vd)
