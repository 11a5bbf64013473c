"""What `gradgene benchmark attribution` measures on: planted cells, a model of them, and pairs."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from gradgene.attribution import Target
from gradgene.cells import Cells, CellSchema, read_cells
from gradgene.cells.synthetic import write_synthetic_shards
from gradgene.commands.benchmark.data_tokenising import BIN_EDGES, PHENOTYPES
from gradgene.models import PhenotypeGeneTransformer
from gradgene.pairs import BlendedBatch, PairSampler, blend
from gradgene.tokens import TokenBatch, Tokenizer, Vocabulary, mask_category

__all__ = [
    "TARGET",
    "Case",
    "accuracy",
    "crossed_pairs",
    "draw_cells",
    "matched_pairs",
    "train",
    "vocabulary_of",
]

#: The contrast that is planted in the cells.
TARGET = Target("disease", "influenza", against="normal")
LEARNING_RATE, WARM_UP, BATCH, CLIP = 5e-4, 0.1, 16, 1.0


@dataclass(frozen=True)
class Case:
    """A model and pairs of cells, which another process can read from a folder.

    Attributes
    ----------
    model
        On the device of the pairs.
    tokens
        The cells, compact.
    input_rows, baseline_rows
        (pairs,) int64: which cells each pair is made of.
    """

    model: PhenotypeGeneTransformer
    tokens: TokenBatch
    input_rows: torch.Tensor
    baseline_rows: torch.Tensor

    def __len__(self) -> int:
        return len(self.input_rows)

    def blended(self) -> BlendedBatch:
        """All pairs on common positions."""
        return blend(self.tokens, self.input_rows, self.baseline_rows)

    def first(self, n: int) -> Case:
        """The first `n` pairs, with their cells alone."""
        rows = torch.stack([self.input_rows[:n], self.baseline_rows[:n]])
        distinct, at = rows.unique(return_inverse=True)
        return Case(self.model, self.tokens.take(distinct), at[0], at[1])

    def shortened(self, n_genes: int = 8) -> Case:
        """The same pairs with the first few genes of every cell."""
        place_t = torch.arange(self.tokens.input_ids_nt.shape[1], device=self.input_rows.device)
        kept_t = place_t < self.model.vocabulary.n_header + n_genes
        return replace(self, tokens=self.tokens.keep(kept_t.expand(len(self.tokens), -1)))

    def write(self, folder: Path) -> Path:
        """Write everything into a new folder; `read` gives it back."""
        folder.mkdir(parents=True)
        size = {"vocabulary": self.model.vocabulary.to_dict(), "size": self.model.size}
        (folder / "model.json").write_text(json.dumps(size))
        save_file(self.model.state_dict(), folder / "model.safetensors")
        rows = {"input_rows": self.input_rows, "baseline_rows": self.baseline_rows}
        cells = {name: tensor.contiguous() for name, tensor in self.tokens.tensors().items()}
        save_file({**cells, **rows}, folder / "pairs.safetensors")
        return folder

    @classmethod
    def read(cls, folder: Path, device: str = "cpu") -> Case:
        """The inverse of `write`, on a device."""
        size = json.loads((folder / "model.json").read_text())
        model = PhenotypeGeneTransformer(size["vocabulary"], **size["size"])
        model.load_state_dict(load_file(folder / "model.safetensors"))
        pairs = {k: v.to(device) for k, v in load_file(folder / "pairs.safetensors").items()}
        rows = pairs.pop("input_rows"), pairs.pop("baseline_rows")
        tokens = TokenBatch(**pairs, pad_id=model.vocabulary.pad_id)
        return cls(model.to(device).eval(), tokens, *rows)


def draw_cells(n: int, n_genes: int, genes_per_cell: int, seed: int) -> Cells:
    """`n` counted cells of about `genes_per_cell` genes, with planted ones; no label is missing.

    The same `n_genes` gives the same genes, and the same ones planted, whatever else differs.
    """
    with tempfile.TemporaryDirectory(prefix="gradgene-benchmark-") as folder:
        written = write_synthetic_shards(
            folder, n, n_genes=n_genes, genes_per_cell=genes_per_cell, unknown=0.0, seed=seed
        )
        return read_cells(str(written.paths[0]), CellSchema(PHENOTYPES, donor="donor_id"))


def vocabulary_of(cells: Cells) -> Vocabulary:
    """All labels and genes of cells, with fixed bins."""
    return Vocabulary.from_cells(cells, BIN_EDGES)


def matched_pairs(
    model: PhenotypeGeneTransformer, cells: Cells, n: int, seed: int, device: str
) -> Case:
    """`n` pairs of the planted contrast that agree in cell type and tissue."""
    sampler = PairSampler(
        TARGET.category,
        TARGET.label,
        str(TARGET.against),
        ("cell_type", "tissue"),
        max_pairs=n,
        seed=seed,
    )
    plan = sampler.sample(cells)
    rows = np.stack([plan.input_rows, plan.baseline_rows])
    return _case(model, cells, rows, device)


def crossed_pairs(
    model: PhenotypeGeneTransformer, cells: Cells, inputs: int, baselines: int, device: str
) -> Case:
    """The first `inputs` cells of each label, every input with `baselines` of the other label.

    Every baseline cell is used as often as every input cell.
    """
    labels = cells.obs[TARGET.category].to_numpy()
    of_input, of_baseline = (
        np.flatnonzero(labels == label)[:inputs] for label in (TARGET.label, TARGET.against)
    )
    inputs = min(len(of_input), len(of_baseline))
    which = np.repeat(np.arange(inputs), baselines)
    partner = (which + np.tile(np.arange(baselines), inputs)) % inputs
    return _case(model, cells, np.stack([of_input[which], of_baseline[partner]]), device)


def _case(model: PhenotypeGeneTransformer, cells: Cells, rows_2p: np.ndarray, device: str) -> Case:
    distinct, at = np.unique(rows_2p, return_inverse=True)
    tokens = Tokenizer(model.vocabulary, cells.schema)(cells.take(distinct)).to(device)
    of_input, of_baseline = torch.from_numpy(at.reshape(rows_2p.shape)).to(device)
    return Case(model, tokens, of_input, of_baseline)


def train(model: PhenotypeGeneTransformer, cells: Cells, steps: int, genes: int, seed: int) -> None:
    """Teach the model the planted contrast in `steps` steps of 16 cells.

    Without any step the weights stay random. Every cell shows a fresh random `genes` of its genes,
    as `data.train_tokens` has it, and its disease is masked. AdamW; the rate rises over the first
    tenth and then falls along a cosine.
    """
    tokenizer = Tokenizer(model.vocabulary, cells.schema)
    cells, rng = tokenizer.prepare(cells), np.random.default_rng(seed)
    device = next(model.parameters()).device
    truth_n = torch.from_numpy(tokenizer.true_labels(cells, TARGET.category)).to(device)
    label_ids = torch.tensor(list(model.vocabulary.label_ids(TARGET.category)), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda k: min(
            (k + 1) / (WARM_UP * steps + 1), 0.5 + 0.5 * math.cos(math.pi * k / (steps or 1))
        ),
    )
    model.train()
    for _ in range(steps):
        rows = rng.integers(len(cells), size=BATCH)
        batch = tokenizer.encode(cells.take(rows), genes, rng).to(device)
        masked, _ = mask_category(batch, model.vocabulary, TARGET.category)
        logits_nc = model.read(
            model.embed(masked), masked.attention_mask_nt, TARGET.category
        ).index_select(1, label_ids)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits_nc, truth_n[rows]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        rate.step()
    model.eval()


@torch.no_grad()
def accuracy(model: PhenotypeGeneTransformer, cells: Cells) -> float:
    """Share of cells whose disease the model names when it sees all their genes."""
    tokenizer = Tokenizer(model.vocabulary, cells.schema)
    device = next(model.parameters()).device
    truth_n = tokenizer.true_labels(cells, TARGET.category)
    masked, _ = mask_category(tokenizer(cells).to(device), model.vocabulary, TARGET.category)
    logits_nv = model.read(model.embed(masked), masked.attention_mask_nt, TARGET.category)
    ids = list(model.vocabulary.label_ids(TARGET.category))
    named_n = logits_nv[:, ids].argmax(dim=1).cpu().numpy()
    return float((named_n == truth_n).mean())
