"""Reading a run's folder: whole, in part, and damaged."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from gradgene.errors import OutputError
from gradgene.reports import RunFiles
from gradgene.reports.run_files import write_atomically
from tests.reports.synthetic import CONFIG, METRICS, write_run

VOCABULARY = {"genes": ["B2M", "ISG15"], "categories": {}}


def test_a_whole_run(tmp_path: Path) -> None:
    run = RunFiles.read(write_run(tmp_path))
    assert run.config == CONFIG
    assert run.metrics == METRICS
    assert run.study["input"] == "IFN-beta stimulated"
    assert run.method == "deeplift"
    assert run.main_ranking == "deeplift/forward"
    assert list(run.compared) == ["grad_x_delta"]
    assert run.stages is not None and run.stages["stage"].tolist() == ["train", "attribute"]
    assert run.history is not None and run.pairs is not None and len(run.pairs) == 160
    assert run.rankings is None and run.best_checkpoint is None


def test_ranked_genes_leave_out_categories(tmp_path: Path) -> None:
    run = RunFiles.read(write_run(tmp_path))
    genes = run.ranked_genes
    assert run.genes is not None and genes is not None
    assert len(genes) == len(run.genes) - 1
    assert genes["rank"].tolist() == list(range(1, len(genes) + 1))


def test_main_ranking_follows_the_configuration(tmp_path: Path) -> None:
    config = {**CONFIG, "ranking": {"importance": "forward", "sign": "absolute"}}
    run = RunFiles.read(write_run(tmp_path, {"config.yaml": config}))
    assert run.main_ranking == "deeplift/forward/abs"
    (tmp_path / "config.yaml").unlink()
    assert RunFiles.read(tmp_path).main_ranking == "deeplift/forward"


@pytest.mark.parametrize(
    ("ranking", "wanted"),
    [
        ({"kind": "attribution", "importance": None, "sign": "signed"}, "deeplift/forward"),
        ({"kind": "attribution", "importance": None, "sign": "absolute"}, "deeplift/forward/abs"),
        ({"kind": "hvg", "importance": None, "sign": "signed"}, "hvg"),
        ({"kind": "table", "importance": None, "sign": "signed"}, None),
    ],
)
def test_the_main_ranking_need_not_be_named(
    tmp_path: Path, ranking: dict[str, object], wanted: str | None
) -> None:
    run = RunFiles.read(write_run(tmp_path, {"config.yaml": {**CONFIG, "ranking": ranking}}))
    assert run.main_ranking == wanted


def test_evidence_is_read(tmp_path: Path) -> None:
    run = RunFiles.read(write_run(tmp_path, {"checkpoints/hf/vocabulary.json": VOCABULARY}))
    assert run.panel == ("B2M", "ISG15")
    assert run.plan is not None
    assert run.plan[["method", "n_pairs", "seconds"]].fillna(-1).to_numpy().tolist() == [
        ["deeplift", 160, 3.9],
        ["grad_x_delta", 160, -1],
    ]
    for table in (run.strata, run.genes_by_label, run.effects, run.enrichment):
        assert table is not None and len(table)
    assert run.skipped_pairs is None
    assert run.ranking_name == "deeplift/forward"
    assert RunFiles(path=tmp_path).ranking_name is None


@pytest.mark.parametrize("plan", ["[]", '{"deeplift": 3}', '{"deeplift": {"test": 1}}'])
def test_a_plan_of_another_shape_is_named(tmp_path: Path, plan: str) -> None:
    write_run(tmp_path, {"attributions/plan.json": plan}, n_genes=20)
    with pytest.raises(OutputError, match=r"plan\.json"):
        RunFiles.read(tmp_path)


def test_an_evidence_table_without_its_columns_is_named(tmp_path: Path) -> None:
    effects = pd.DataFrame({"ranking": ["a"], "spearman": [0.5]})
    write_run(tmp_path, {"attributions/effects.parquet": effects}, n_genes=20)
    with pytest.raises(OutputError, match="the effects table has no column 'label'"):
        RunFiles.read(tmp_path)


def test_only_attributions(tmp_path: Path) -> None:
    table = pd.DataFrame({"gene": ["A"], "score": [1.0], "rank": [1]})
    run = RunFiles.read(write_part(tmp_path, table))
    assert run.config is None and run.curves is None and run.metrics is None
    assert run.study == {} and run.method is None and run.main_ranking is None


def write_part(folder: Path, genes: pd.DataFrame) -> Path:
    (folder / "attributions").mkdir()
    genes.to_parquet(folder / "attributions" / "genes.parquet")
    return folder


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write_part(tmp_path, pd.DataFrame({"gene": ["A"], "scores": [1.0], "rank": [1]}))
    with pytest.raises(OutputError, match=r"no column 'score'.*'scores'"):
        RunFiles.read(tmp_path)


def test_no_folder_and_no_run(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such run directory"):
        RunFiles.read(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(OutputError, match=r"not a run's directory.*notes\.txt"):
        RunFiles.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", "{"),
        ("metrics.json", "[1]"),
        ("config.yaml", "a: [1"),
        ("config.yaml", "- 1"),
        ("attributions/genes.parquet", "no parquet"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, text: str) -> None:
    write_run(tmp_path, {name: text}, n_genes=20)
    with pytest.raises(OutputError, match=name):
        RunFiles.read(tmp_path)


@pytest.mark.parametrize("damage", ['{"stage": "attr', 'nonsense\n{"stage": "attr'])
def test_a_cut_off_line_is_an_interruption(tmp_path: Path, damage: str) -> None:
    text = '{"stage": "train", "seconds": 1.5}\n' + damage
    run = RunFiles.read(write_run(tmp_path, {"progress.jsonl": text}, n_genes=20))
    assert run.stages is not None and run.stages["seconds"].tolist() == [1.5]


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "new" / "a.txt", b"one")
    assert path.read_bytes() == b"one"
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "a.txt", b"two")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomically(tmp_path / "taken", b"three")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "new", "taken"]
