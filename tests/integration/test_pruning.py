"""Pruning that is broken off goes on, and pairs pruned by their own scores say that they leak."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from gradgene.commands.main import main
from gradgene.commands.prune import pairs as prune_pairs
from gradgene.commands.prune.progress import PieceFiles
from gradgene.pruning import RANDOM_WEIGHTS
from tests.integration.tiny import QUICK, contents, read, words

SHARES = "pruning.ratios={lowest_first:[0.0,0.5,0.9],highest_first:[0.0,0.5]}"
HELD_OUT = ("pruning.batch_tokens=30", SHARES, *QUICK)
PER_PAIR = (
    *("pruning.rank_source=per_pair", "pruning.rankings=main", "pruning.controls=[random,hvg]"),
    SHARES,
)


@pytest.fixture(scope="module")
def attributed(cells_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose pairs are attributed, not to be changed."""
    folder = tmp_path_factory.mktemp("attributed") / "run"
    for command in ("train", "attribute"):
        assert main([command, *words(cells_file, folder)]) == 0
    return folder


@pytest.fixture
def folder(attributed: Path, tmp_path: Path) -> Path:
    """A copy of the attributed run."""
    return shutil.copytree(attributed, tmp_path / "run")


def break_off(monkeypatch: pytest.MonkeyPatch, after: int) -> list[str]:
    """Interrupt every pruning once it has kept so many pieces; the names of all that are kept."""
    kept: list[str] = []
    write = PieceFiles.write

    def counted(self: PieceFiles, name: str, piece: np.ndarray) -> None:
        write(self, name, piece)
        kept.append(name)
        if len(kept) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(PieceFiles, "write", counted)
    return kept


@pytest.mark.parametrize("how", [HELD_OUT, pytest.param(PER_PAIR, marks=pytest.mark.slow)])
def test_a_broken_off_pruning_goes_on(how, folder, attributed, cells_file, tmp_path, monkeypatch):
    monkeypatch.setattr(prune_pairs, "PAIRS_A_PIECE", 2)
    monkeypatch.setenv("GRADGENE_CACHE", "")  # which has what was pruned as a whole
    whole = shutil.copytree(attributed, tmp_path / "whole")
    assert main(["prune", *words(cells_file, whole, *how)]) == 0
    kept = break_off(monkeypatch, 3)
    line = ["prune", *words(cells_file, folder, *how)]
    assert main(line) == 130
    assert len(kept) == 3 and not (folder / "pruning" / "curves.parquet").exists()
    pieces = sorted(folder.glob("pruning/.progress/*/*.npy"))
    assert len(pieces) == 3
    pieces[-1].write_bytes(pieces[-1].read_bytes()[:40])  # as a full disk may leave one
    assert main(line) == 0
    assert pieces[-1].stem in kept[3:] and not set(kept[3:]) & {p.stem for p in pieces[:-1]}
    assert not (folder / "pruning" / ".progress").exists()
    assert contents(folder / "pruning") == contents(whole / "pruning")


def test_other_settings_begin_anew(folder, cells_file, monkeypatch):
    kept = break_off(monkeypatch, 1)
    assert main(["prune", *words(cells_file, folder, *HELD_OUT)]) == 130
    first = next(folder.glob("pruning/.progress/*"))
    kept.clear()
    assert main(["prune", *words(cells_file, folder, *HELD_OUT, "pruning.n_random=3")]) == 130
    assert not first.exists() and len(list(folder.glob("pruning/.progress/*"))) == 1


@pytest.mark.slow
def test_pairs_pruned_by_their_own_scores_have_a_null_beside_them(folder, cells_file):
    assert main(["prune", *words(cells_file, folder, *PER_PAIR)]) == 0
    curves, summary = read(folder, "pruning/curves"), read(folder, "pruning/summary")
    assert set(curves["rank_source"]) == {"per_pair"}
    named = {"deeplift/forward"}
    null = {name + RANDOM_WEIGHTS for name in named}
    assert set(curves["ranking"]) == {*named, *null, "random", "hvg"}
    # The random curve is another model's than that of the null.
    against = dict(summary[["ranking", "against"]].drop_duplicates().to_numpy())
    assert against == dict.fromkeys((*named, "random", "hvg"), "random") | dict.fromkeys(
        null, "whole panel"
    )
    donors = read(folder, "pruning/curves_by_donor")
    assert {*summary["rank_source"], *donors["rank_source"]} == {"per_pair"}
    n_pairs = len(read(folder, "attributions/pairs"))
    assert curves.groupby("arm")["n_cells"].unique().map(list).to_dict() == {
        "input": [n_pairs],
        "baseline": [n_pairs],
        "both": [2 * n_pairs],
    }
    # The whole cells are the same for every ranking of one model, and differ between the two.
    whole = curves.query("ratio == 0 and metric == 'probability' and arm == 'both'")
    by_model = whole.groupby(whole["ranking"].isin(null))["value"].unique()
    assert by_model.map(len).tolist() == [1, 1] and by_model[True] != by_model[False]
