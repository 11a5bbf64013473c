"""The model card says what is known, and no more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from gradgene.checkpoints import ModelFacts, load_checkpoint, save_folder
from tests.checkpoints.toys import original
from tests.planted import make_adata


def rows(card: str) -> dict[str, str]:
    """First cell of each table row -> second."""
    found = re.findall(r"^\| (.+?) \| (.*?) \|$", card, flags=re.MULTILINE)
    return dict(found)


def test_facts_are_in_the_card(tmp_path: Path) -> None:
    made = original(("d0", "d1", "d2"))
    facts = ModelFacts(
        target="disease",
        data="planted.h5ad",
        data_hash="1b0c9e",
        metrics={"test/balanced_accuracy": 0.87654, "a|b": 2.0},
    )
    save_folder(made.model, made.tokenizer, tmp_path / "hf", made.trained_on, facts)
    card = (tmp_path / "hf" / "README.md").read_text()
    said = rows(card)
    assert said["cells"] == "planted.h5ad" and said["hash of the cells"] == "1b0c9e"
    assert said["donors it must not be judged on"] == "3: d0, d1, d2"
    assert said["test/balanced_accuracy"] == "0.8765"
    assert said["disease"] == "2: case, control" and said["genes"] == "50"
    assert "2 layers of width 16" in card and "names the disease of a cell" in card
    n = sum(p.numel() for p in made.model.parameters())
    assert f"{n:,} parameters" in card
    assert card.startswith("---\n") and card.count("\n---\n") == 1  # metadata of model hubs


def test_what_is_not_known_is_said_so(tmp_path: Path) -> None:
    made = original()
    save_folder(made.model, made.tokenizer, tmp_path / "hf")
    card = (tmp_path / "hf" / "README.md").read_text()
    said = rows(card)
    for name in ("cells", "hash of the cells", "donors it must not be judged on"):
        assert said[name] == "not recorded"
    assert "Not recorded." in card and "fills in masked tokens" in card


def test_many_donors_are_counted(tmp_path: Path) -> None:
    made = original(tuple(f"donor{i}" for i in range(40)))
    save_folder(made.model, made.tokenizer, tmp_path / "hf", made.trained_on)
    card = (tmp_path / "hf" / "README.md").read_text()
    assert rows(card)["donors it must not be judged on"] == "40"


@pytest.mark.parametrize("size", [{}, {"head": "none", "classifier": "sex"}])
def test_the_code_in_the_card_runs(tmp_path: Path, size: dict[str, Any]) -> None:
    made = original(**size)
    save_folder(made.model, made.tokenizer, tmp_path / "hf")
    card = (tmp_path / "hf" / "README.md").read_text()
    found = re.search(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert found is not None
    code = found[1].replace("this/folder", str(tmp_path / "hf"))
    names: dict[str, object] = {"adata": make_adata(n=5)}
    exec(code, names)
    logits = names["logits"]
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (5, made.vocabulary.n_values)
    assert load_checkpoint(tmp_path / "hf").report.kind == "folder"
