"""Attribute pairs in some processes, and write what each of them did and what all have found.

`python predicting.py FOLDER SAMPLER:N …` does so in N processes, with the sampler of Lightning
allowed (auto) or forbidden (as_served), into FOLDER/<sampler>:<n>/. A program, because pytest
should not be forked.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import lightning
import numpy as np
import torch

from gradgene.attribution import Attribution, Target, build_method
from gradgene.commands.main import end_process
from gradgene.genes import GeneSumsMetric, Importance, PairDesign
from gradgene.lit import (
    FineTuning,
    MaskedTarget,
    PhenotypeModule,
    leave_processes,
    pair_loader,
)
from gradgene.pairs import CellStateBaseline, PairSampler
from tests.distributed.forking import run_forked
from tests.lit.toys import Watched
from tests.planted import make_cells, make_model, make_tokenizer


def main(sampler: str, folder: Path, n: int) -> None:
    """Predict, and write `rank<number>.json`."""
    counts = make_cells(n=40, n_genes=20)
    tokenizer = make_tokenizer(counts)
    cells = tokenizer.prepare(counts)
    plan = PairSampler("disease", "case", "control", ("sex",), per_cell=2, max_pairs=11).sample(
        cells
    )
    model = make_model(tokenizer.vocabulary)
    module = PhenotypeModule(model, tokenizer.schema, "disease", FineTuning(), MaskedTarget())
    target = Target("disease", "case", "control")
    module.explain_with(build_method("deeplift"), target, CellStateBaseline())
    importances = Importance.meaningful("deeplift", "cell_state", "margin")
    design = PairDesign.of(plan, cells, tokenizer.vocabulary.bin_edges[0])
    design = replace(design, exchangeable=True)  # so that there is a null to be summed
    sums = GeneSumsMetric(20, 3, design, importances, sees_presence=True, main="forward", n_null=5)
    mine: dict[int, float] = {}

    def write(found: Attribution, pairs: np.ndarray) -> None:
        for pair, total in zip(pairs.tolist(), found.forward.scores_pt.sum(dim=1), strict=True):
            assert pair not in mine
            mine[pair] = float(total)

    collector = Watched(sums, plan, write)
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=n,
        strategy="ddp" if n > 1 else "auto",
        use_distributed_sampler=sampler == "auto",
        callbacks=[collector],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = trainer.predict(module, pair_loader(cells, tokenizer, plan, 150))
    returned = [len(one.gene_ids_pt) for one in cast(list[Attribution], batches)]
    all_sums = sums.gene_sums()
    assert all_sums.null is not None and all_sums.within_ss is not None
    found = {
        "mine": mine,
        "returned": sum(returned),
        "pairs": collector.pairs().to_dict("list"),
        "sums": {name: values.tolist() for name, values in all_sums.sums.items()}
        | {"null": all_sums.null.tolist(), "within_ss": all_sums.within_ss.tolist()},
        "within_dof": all_sums.within_dof,
        "n_pairs_g": all_sums.n_pairs_g.tolist(),
    }
    (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(found))
    leave_processes()
    end_process(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for run in sys.argv[2:]:
        sampler, _, n = run.partition(":")
        folder = Path(sys.argv[1], run)
        folder.mkdir()
        run_forked(int(n), partial(main, sampler, folder, int(n)))
