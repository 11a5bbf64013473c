"""Print what `DeepLift` needs at its peak, in MB above what is resident before.

Run in a process of its own: `python deeplift_memory.py GENESxLAYERS …`. Each size has a process of
its own again, forked once everything is imported and nothing else is done.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from gradgene.attribution import DeepLift, Target
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import blend
from gradgene.tokens import CLS, EOS, TokenBatch, Vocabulary

TARGET = Target("disease", "case", "control")


def cells(vocabulary: Vocabulary, n_genes: int) -> TokenBatch:
    """Two cells with the first `n_genes` genes and the last ones of the panel."""
    ids = torch.full((2, n_genes + 3), vocabulary.bin_offset + 1)
    ids[1, 2:-1] += 1
    ids[:, 0], ids[:, -1] = CLS, EOS
    ids[:, 1] = torch.tensor(vocabulary.label_ids("disease"))
    genes = torch.full_like(ids, -1)
    genes[0, 2:-1] = torch.arange(n_genes)
    genes[1, 2:-1] = torch.arange(len(vocabulary.genes) - n_genes, len(vocabulary.genes))
    types = torch.where(genes < 0, 0, genes + vocabulary.gene_offset)
    types[:, 1] = vocabulary.category_type("disease")
    return TokenBatch(ids, types, torch.ones_like(ids, dtype=torch.bool), genes)


def peak_mb(n_genes: int, n_layers: int) -> float:
    """Peak of one pair through a model of width 64 with eight heads, both directions."""
    torch.set_num_threads(1)
    genes = tuple(f"g{i}" for i in range(n_genes + n_genes // 10))
    vocabulary = Vocabulary({"disease": ("case", "control")}, ("disease",), genes, (0.1, 1.0, 2.0))
    model = PhenotypeGeneTransformer(
        vocabulary, dim=64, n_layers=n_layers, n_heads=8, hidden_dim=256
    )
    first, second = torch.tensor([0]), torch.tensor([1])
    # A small pair first, so that libraries and their buffers are there already.
    DeepLift().attribute(model, blend(cells(vocabulary, 50), first, second), TARGET)
    pair = blend(cells(vocabulary, n_genes), first, second)
    before = status_mb("VmRSS")
    DeepLift().attribute(model, pair, TARGET)
    return status_mb("VmHWM") - before


def status_mb(name: str) -> float:
    """A line of `/proc/self/status`; getrusage would count the parent's peak as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**10


if __name__ == "__main__":
    for size in sys.argv[1:]:
        process = os.fork()
        if process == 0:
            print(f"{peak_mb(*map(int, size.split('x'))):.1f}", flush=True)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
