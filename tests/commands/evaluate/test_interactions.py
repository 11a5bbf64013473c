"""Interactions of a run's best genes: which genes, which cells, and what is written."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from gradgene.attribution import AttributionSettings, DeepLift
from gradgene.commands.evaluate.interactions import check_interactions, measure_interactions
from gradgene.errors import ConfigError, RankingError
from gradgene.evaluation import Interactions
from gradgene.evaluation.interactions import INTERACTION_COLUMNS
from tests.planted import make_cells, make_model, make_tokenizer

BEST = [f"g{k}" for k in (3, 20, 7, 0, 5, 9, 11)]


@pytest.fixture
def work(tmp_path: Path) -> Any:
    """A run that has attributed: its training rankings begin with `BEST`."""
    cells = make_cells(120, 30)
    tokenizer = make_tokenizer(cells)
    cells, metrics = tokenizer.prepare(cells), dict[str, float]()
    rankings = {
        ("deeplift/forward", 0): BEST,
        ("deeplift/forward/abs", 0): BEST[::-1],
        ("deg", 0): BEST[3:],
        ("random", 0): BEST[2:],
        ("random", 1): BEST[::-1],
    }
    rows = [
        {"ranking": name, "draw": draw, "gene": gene, "rank": 1 + rank}
        for (name, draw), genes in rankings.items()
        for rank, gene in enumerate(genes)
    ]
    (tmp_path / "pruning").mkdir()
    pd.DataFrame(rows).sample(frac=1, random_state=0).to_parquet(
        tmp_path / "pruning" / "rankings.parquet"
    )
    settings = AttributionSettings(DeepLift())
    leaves = {
        "ranking": {"_target_": "gradgene.pruning.RankingChoice"},
        "baseline": {"_target_": "gradgene.pairs.CellStateBaseline"},
        "pruning": {
            "_target_": "gradgene.pruning.PruningSettings",
            "ratios": [0.5],
            "controls": ["random"],
        },
        "checkpoint": {"path": None},
        "model": {"activation": "gelu"},
    }
    return SimpleNamespace(
        folder=tmp_path,
        cfg=OmegaConf.create(leaves),
        facts=SimpleNamespace(
            target="disease", input="case", baseline="control", match_on=("cell_type",), seed=0
        ),
        data=SimpleNamespace(part=lambda name: {"test": cells}[name]),
        loaded=SimpleNamespace(
            model=make_model(tokenizer.vocabulary),
            tokenizer=tokenizer,
            vocabulary=tokenizer.vocabulary,
        ),
        start=None,
        device="cpu",
        settings=settings,
        attributions=[settings],
        console=Console(quiet=True),
        metrics=metrics,
        add_metrics=metrics.update,
    )


def table_of(work: Any, **settings: Any) -> pd.DataFrame:
    asked = Interactions(**{"top_k": 4, "max_pairs": 9, "n_null": 20, **settings})
    check_interactions(work, asked)
    measure_interactions(work, asked)
    return pd.read_parquet(work.folder / "evaluation" / "interactions.parquet")


def genes_of(table: pd.DataFrame) -> set[str]:
    return {*table["gene_a"], *table["gene_b"]}


def test_genes_of_the_ranking_that_the_study_is_about(work: Any) -> None:
    work.cfg.ranking.kind = "deg"
    assert genes_of(table_of(work)) == {*BEST[3:]}


def test_genes_of_a_control(work: Any) -> None:
    assert genes_of(table_of(work, ranking="random")) == {*BEST[2:6]}, "of the first draw"
    with pytest.raises(RankingError, match="no ranking 'deg'"):
        table_of(work, ranking="deg")  # this pruning has no such control


def test_what_is_written(work: Any) -> None:
    table = table_of(work)
    assert list(table) == [*INTERACTION_COLUMNS, "method", "seed"]
    assert len(table) == 6
    assert genes_of(table) == {*BEST[:4]}
    assert (table["method"] == "finite_differences").all()
    assert (table["n_pairs"] == 9).all()
    assert (table["n_donors"] == 4).all()
    assert table["ci_low"].lt(table["interaction"]).all()
    assert work.metrics == {
        "interactions/n_genes": 4,
        "interactions/n_cell_pairs": 9,
        "interactions/strongest": table["excess"].abs().max(),
        "interactions/n_significant": (table["p_adjusted"] < 0.05).sum(),
    }


def test_which_genes(work: Any) -> None:
    assert genes_of(table_of(work, ranking="deeplift/forward/abs")) == {*BEST[-4:]}
    assert genes_of(table_of(work, genes=("g1", "g29"))) == {"g1", "g29"}
    work.cfg.ranking.sign = "absolute"
    assert genes_of(table_of(work)) == {*BEST[-4:]}


def test_by_second_derivatives(work: Any) -> None:
    """Other numbers of the same genes, and no test where none is asked for."""
    one = table_of(work)
    other = table_of(work, method="integrated_hessians", n_steps=2, n_null=0)
    assert genes_of(other) == genes_of(one)
    assert (other["method"] == "integrated_hessians").all()
    assert other["interaction"].abs().max() > 0
    assert set(other["interaction"]) != set(one["interaction"])
    assert other["p_adjusted"].isna().all()


def test_the_same_again(work: Any) -> None:
    pd.testing.assert_frame_equal(table_of(work), table_of(work))


def test_refuses_what_there_is_not(work: Any) -> None:
    with pytest.raises(RankingError, match=r"no ranking 'deeplift/froward'.*'deeplift/forward'"):
        check_interactions(work, Interactions(ranking="deeplift/froward"))
    with pytest.raises(RankingError, match="'G1' is not in the model's panel"):
        check_interactions(work, Interactions(genes=("g1", "G1")))


@pytest.mark.parametrize("of", ["the configuration", "the start", "the checkpoint"])
def test_refuses_kinks_before_any_work(work: Any, of: str) -> None:
    """Of the model in use, whichever it is; the others are smooth."""
    asked = Interactions(method="integrated_hessians")
    check_interactions(work, asked)
    kinked = SimpleNamespace(model=SimpleNamespace(size={"activation": "relu"}))
    if of == "the configuration":
        work.cfg.model.activation = "relu"
    elif of == "the start":
        work.start, work.loaded = kinked, None
    else:
        work.cfg.checkpoint.path, work.loaded = "best.ckpt", kinked
    work.data = None
    with pytest.raises(ConfigError, match=r"interactions\.method.*finite_differences") as refused:
        check_interactions(work, asked)
    assert "ReLU" in str(refused.value)
    check_interactions(work, Interactions())
