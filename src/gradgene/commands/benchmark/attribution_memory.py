"""How the memory of `deeplift` grows with the length of cells, and what that makes of long ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from gradgene.commands.benchmark.attribution_case import TARGET, Case
from gradgene.commands.benchmark.attribution_methods import benchmarked, seconds_of
from gradgene.commands.benchmark.data_tokenising import PHENOTYPES
from gradgene.commands.benchmark.figures import Figure
from gradgene.commands.run.memory import MB, peak_mb, resident_mb
from gradgene.models import PhenotypeGeneTransformer
from gradgene.tokens import CLS, EOS, TokenBatch, Vocabulary

__all__ = ["FULL", "Shape", "added_by", "fit_memory", "memory_figures", "random_case"]

#: Share of the union that both members of a pair have.
SHARED = 0.8
#: A figure in GB.
GB = 1e9


@dataclass(frozen=True)
class Shape:
    """One run of `deeplift`: `n_genes` in the union of every one of `n_pairs` pairs."""

    n_genes: int
    n_layers: int
    n_pairs: int = 8
    dim: int = 768
    n_heads: int = 12
    device: str = "cpu"
    threads: int | None = None


#: What has to fit into 24 GB of CPU memory.
FULL = Shape(n_genes=3500, n_layers=12)


def random_case(shape: Shape) -> Case:
    """A model with random weights, and pairs whose members share four fifths of their genes."""
    vocabulary = Vocabulary(
        {
            "disease": (TARGET.label, str(TARGET.against)),
            "cell_type": ("B cell", "T cell"),
            "tissue": ("blood", "lung"),
        },
        PHENOTYPES,
        tuple(f"GENE{i}" for i in range(shape.n_genes)),
        (0.1, 1.0, 2.0, 3.0),
    )
    torch.manual_seed(0)
    model = PhenotypeGeneTransformer(
        vocabulary,
        dim=shape.dim,
        n_layers=shape.n_layers,
        n_heads=shape.n_heads,
        hidden_dim=4 * shape.dim,
    )
    own = round(shape.n_genes * (1 - SHARED) / 2)
    genes = [range(shape.n_genes - own), range(own, shape.n_genes)]
    tokens = _tokens(vocabulary, genes, shape.n_pairs)
    rows = torch.arange(shape.n_pairs, device=shape.device)
    on_device = model.to(shape.device).eval(), tokens.to(shape.device)
    return Case(*on_device, rows, rows + shape.n_pairs)


def _tokens(vocabulary: Vocabulary, genes: list[range], copies: int) -> TokenBatch:
    """`copies` cells of each range of genes (equally long), with random bins."""
    n, header = len(genes) * copies, vocabulary.n_header
    gene_nt = torch.tensor([list(mine) for mine in genes]).repeat_interleave(copies, dim=0)
    bins_nt = torch.randint(1, len(vocabulary.bins) + 1, gene_nt.shape)
    labels = [vocabulary.label_ids(c)[0] for c in PHENOTYPES]
    types = [0, *map(vocabulary.category_type, PHENOTYPES)]
    start = torch.tensor([CLS, *labels]).expand(n, header)
    end = torch.full((n, 1), EOS)
    input_ids_nt = torch.cat([start, vocabulary.bin_offset + bins_nt, end], dim=1)
    types_nt = torch.cat(
        [torch.tensor(types).expand(n, header), vocabulary.gene_offset + gene_nt, 0 * end], dim=1
    )
    none_nt = torch.full((n, header), -1)
    gene_ids_nt = torch.cat([none_nt, gene_nt, none_nt[:, :1]], dim=1)
    return TokenBatch(input_ids_nt, types_nt, torch.ones_like(gene_ids_nt).bool(), gene_ids_nt)


def added_by(shape: Shape) -> dict[str, float]:
    """Memory and time of one run of `deeplift`, in both directions; meant for a fresh process.

    Columns: `n_genes, n_layers, n_pairs, dim, seconds, before_mb, peak_mb, added_mb, gpu_mb,
    relative_delta`; memory is resident, added is what the run put on top of model and pairs.
    """
    if shape.threads is not None:
        torch.set_num_threads(shape.threads)
    case = random_case(shape)
    blended, before = case.blended(), resident_mb()
    method = benchmarked("deeplift", 1)
    seconds, found = seconds_of(lambda: method.attribute(case.model, blended, TARGET), shape.device)
    gpu = torch.cuda.max_memory_allocated() / MB if shape.device == "cuda" else float("nan")
    return {
        "n_genes": shape.n_genes,
        "n_layers": shape.n_layers,
        "n_pairs": shape.n_pairs,
        "dim": shape.dim,
        "seconds": seconds,
        "before_mb": before,
        "peak_mb": peak_mb(),
        "added_mb": peak_mb() - before,
        "gpu_mb": gpu,
        "relative_delta": float(found.forward.relative_delta_p.max()),
    }


def fit_memory(table: pd.DataFrame) -> np.ndarray:
    """Coefficients c of added_mb = c0 + genes (c1 + c2 layers), by least squares.

    With one depth in the table all growth is taken to be a layer's (c1 = 0), which overestimates
    deeper models.
    """
    design = _design(table["n_genes"], table["n_layers"])
    fitted = [0, 2] if table["n_layers"].nunique() == 1 else [0, 1, 2]
    found, *_ = np.linalg.lstsq(design[:, fitted], table["added_mb"].to_numpy(), rcond=None)
    coefficients = np.zeros(3)
    coefficients[fitted] = found
    return coefficients


def _design(n_genes: pd.Series | np.ndarray, n_layers: pd.Series | np.ndarray) -> np.ndarray:
    genes, layers = (np.asarray(x, dtype=float) for x in (n_genes, n_layers))
    return np.stack([np.ones_like(genes), genes, genes * layers], axis=1)


def memory_figures(table: pd.DataFrame, measured: dict[str, float] | None) -> list[Figure]:
    """How straight the growth is, what it makes of `FULL`, and one run of that if there was one."""
    part, figures = "deeplift memory", []
    if len(table):
        design, added = _design(table["n_genes"], table["n_layers"]), table["added_mb"].to_numpy()
        coefficients = fit_memory(table)
        missed = 100 * float(np.abs(design @ coefficients - added).max()) / max(added.max(), 1.0)
        full = _design(np.array([FULL.n_genes]), np.array([FULL.n_layers])) @ coefficients
        # The deepest model of the table is resident already; further layers bring weights.
        more = 4 * 12 * FULL.dim**2 * (FULL.n_layers - int(table["n_layers"].max()))
        fits = set(table["n_pairs"]) == {FULL.n_pairs} and set(table["dim"]) == {FULL.dim}
        total = (float(full[0]) + float(table["before_mb"].max())) * MB + more
        shape = f"{FULL.n_genes:,} genes, {FULL.n_pairs} pairs, {FULL.n_layers} layers"
        given = f"{table['n_genes'].min()} to {table['n_genes'].max()} genes"
        figures += [
            Figure(
                part, "off the straight line", missed, "%", note=f"of the largest, at most; {given}"
            ),
            Figure(
                part,
                "extrapolated",
                total / GB if fits else None,
                "GB",
                at_most=24,
                note=shape if fits else f"needs memory_pairs={FULL.n_pairs} and dim={FULL.dim}",
            ),
        ]
    if measured is not None:
        note = f"{measured['n_genes']:,.0f} genes, {measured['n_pairs']:.0f} pairs, "
        note += f"{measured['n_layers']:.0f} layers, {measured['seconds']:,.0f} s"
        peak = measured["peak_mb"] * MB / GB
        figures.append(Figure(part, "measured", peak, "GB", at_most=24, note=note))
    return figures
