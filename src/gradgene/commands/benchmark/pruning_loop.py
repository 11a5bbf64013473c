"""Pruning one pair at a time, as the paper's code does it: what `benchmark pruning` compares with.

Its script is called once for each ranking and each order. It goes through the pairs; reads the file
of either cell, finds the cell in it and tokenises it; aligns the two on the union of their genes;
and then for each share sorts the genes, cuts both cells, drops what is padding and runs the whole
model on one cell after the other (spec 1 §2.9). The same is done here with our model, tokenizer and
alignment, which leaves the order of the work as what differs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anndata as ad
import numpy as np
import torch

from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, blend
from gradgene.pruning import GeneRanking, PruningSettings, places
from gradgene.tokens import TokenBatch, Tokenizer

__all__ = ["LoopTimes", "run_loop"]


@dataclass
class LoopTimes:
    """Seconds of wall time of the parts of the loop, and what it found.

    Attributes
    ----------
    read
        Reading files, finding the cells in them and tokenising them.
    cut
        Aligning the pair, choosing genes, building the two sequences.
    predict
        Running the model.
    cpu
        Seconds of processor time of all of it, of all threads.
    probabilities
        In the order of the work: (labels,) of the input and of the baseline at every point.
    """

    read: float = 0.0
    cut: float = 0.0
    predict: float = 0.0
    cpu: float = 0.0
    probabilities: list[np.ndarray] = field(default_factory=list)

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return self.read + self.cut + self.predict

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the body's time as that of a part."""
        started, cpu = time.perf_counter(), time.process_time()
        yield
        setattr(self, part, getattr(self, part) + time.perf_counter() - started)
        self.cpu += time.process_time() - cpu


@torch.inference_mode()
def run_loop(
    model: PhenotypeGeneTransformer,
    tokenizer: Tokenizer,
    file: Path,
    pairs: Sequence[tuple[str, str]],
    rankings: Sequence[GeneRanking],
    settings: PruningSettings,
    category: str,
) -> LoopTimes:
    """Prune `pairs` (names of input and baseline in `file`) one after the other, and time it."""
    times = LoopTimes()
    slot, ids = model.vocabulary.slot(category), list(model.vocabulary.label_ids(category))
    for ranking in rankings:
        for order, ratios in settings.grid.items():
            score_g = -torch.from_numpy(places(ranking))  # so that ties are broken alike
            for pair in pairs:
                with times.timed("read"):
                    cells = [_read_cell(file, name, tokenizer) for name in pair]
                with times.timed("cut"):
                    blended = blend(_stack(*cells), torch.tensor([0]), torch.tensor([1]))
                for ratio in ratios:
                    with times.timed("cut"):
                        members = cut_pair(blended, score_g, ratio, order)
                    with times.timed("predict"):
                        found = [_predict(model, member, slot, ids) for member in members]
                    times.probabilities += found
    return times


def cut_pair(
    blended: BlendedBatch, score_g: torch.Tensor, ratio: float, order: str
) -> list[TokenBatch]:
    """Both members of a pair with what is left of the genes of their union, without padding."""
    genes_u = blended.gene_ids_pt[0]
    gene_t = (genes_u >= 0).nonzero()[:, 0]
    score_u = score_g[genes_u[gene_t]]
    if order == "highest_first":
        score_u = -score_u
    n = round((1 - ratio) * len(gene_t))
    kept_t = genes_u < 0
    kept_t[gene_t[torch.topk(score_u, n).indices]] = True
    return [m.keep(m.attention_mask_nt & kept_t) for m in (blended.input, blended.baseline)]


def _read_cell(file: Path, name: str, tokenizer: Tokenizer) -> TokenBatch:
    """One cell of a file, as tokens."""
    adata = ad.read_h5ad(file)
    return tokenizer(adata[[name]].copy())


def _stack(a: TokenBatch, b: TokenBatch) -> TokenBatch:
    """Two cells in one batch."""
    length = max(a.input_ids_nt.shape[1], b.input_ids_nt.shape[1])
    fill = {"input_ids_nt": a.pad_id, "gene_ids_nt": -1}
    padded = {
        name: torch.cat(
            [
                torch.nn.functional.pad(x, (0, length - x.shape[1]), value=fill.get(name, 0))
                for x in (mine, b.tensors()[name])
            ]
        )
        for name, mine in a.tensors().items()
    }
    return TokenBatch(**padded, pad_id=a.pad_id)


def _predict(
    model: PhenotypeGeneTransformer, cell: TokenBatch, slot: int, ids: list[int]
) -> np.ndarray:
    """(labels,) probabilities of one cell, from the logits of all its positions."""
    input_ids_nt = cell.input_ids_nt.clone()
    input_ids_nt[:, slot] = model.vocabulary.mask_id
    masked = TokenBatch(
        input_ids_nt,
        cell.token_type_ids_nt,
        cell.attention_mask_nt,
        cell.gene_ids_nt,
        pad_id=cell.pad_id,
    )
    logits_c = model(masked).logits_ntv[0, slot, ids]
    return np.asarray(logits_c.float().softmax(dim=0).cpu().numpy())
