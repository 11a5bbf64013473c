"""Streaming serves each cell once, both ways of tokenising agree, and nothing is left behind."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from gradgene.cells.synthetic import write_synthetic_shards
from gradgene.commands.benchmark import data as benchmark_data
from gradgene.commands.benchmark import data_streaming as benchmark_streaming
from gradgene.commands.benchmark import data_tokenising as benchmark_tokenising
from gradgene.commands.benchmark.data import Settings, measure, streaming_figures
from gradgene.commands.benchmark.data_streaming import StreamRun, missed_and_repeated, stream_epoch
from gradgene.commands.benchmark.data_tokenising import (
    read_case,
    time_tokenising,
    tokenise_one_by_one,
)
from gradgene.commands.config.groups import conf_dir
from gradgene.errors import CellsError, ConfigError, OutputError, TokenError
from gradgene.lit.streaming import SeededTokens, Streaming, TokenStream
from gradgene.tokens import TokenBatch

STREAMING = Streaming(batch_tokens=1000, fetch_cells=64, block_cells=8)
TOY = Settings(
    cells=300,
    shards=3,
    genes=120,
    genes_per_cell=20,
    batch_tokens=1000,
    fetch_cells=64,
    block_cells=8,
    tokenise_cells=40,
    tokenise_genes=50,
    tokenise_batch=16,
    loop_cells=10,
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """300 cells in three files."""
    folder = tmp_path_factory.mktemp("shards")
    return tuple(map(str, write_synthetic_shards(folder, 300, 3, 120, 20).paths))


@pytest.fixture(scope="module")
def long_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 cells of about 50 genes, all labels known."""
    folder = tmp_path_factory.mktemp("long")
    return write_synthetic_shards(folder, 40, 1, 120, 50, unknown=0.0).paths[0]


def test_what_is_measured_is_how_a_pretraining_reads() -> None:
    leaf = yaml.safe_load((conf_dir() / "data" / "stream.yaml").read_text())
    said = {field.name: leaf[field.name] for field in fields(Streaming)}
    assert Settings().streaming == Streaming() == Streaming(**said)


def test_an_epoch_serves_every_cell_once(shards: tuple[str, ...]) -> None:
    run = stream_epoch(shards, STREAMING, seed=3)
    assert (run.n_cells, run.missed, run.repeated) == (300, 0, 0)
    assert 0 < run.n_tokens <= run.n_positions and 0 <= run.padding < 1
    assert run.memory[0][0] == 0 and run.memory[-1][0] == 300
    assert len(run.memory) <= benchmark_streaming.SAMPLES + 1
    assert run.peak_mb >= max(resident for _, resident in run.memory)
    assert list(run.memory_table()) == ["cells", "resident_mb"]
    run.require_each_cell_once()


@pytest.mark.parametrize(
    ("served", "missed", "repeated"),
    [
        ([5, 7, 9], 0, 0),
        ([9, 5, 7], 0, 0),
        ([5, 7], 1, 0),
        ([5, 7, 7], 1, 1),
        ([5, 7, 9, 9, 9], 0, 2),
        ([5, 7, 9, 11], 0, 1),  # a cell that is none of ours
    ],
)
def test_missed_and_repeated_cells_are_counted(
    served: list[int], missed: int, repeated: int
) -> None:
    found = missed_and_repeated(np.array(served), np.array([5, 7, 9]))
    assert found == (missed, repeated)


def test_an_epoch_that_loses_a_batch_is_an_error(
    shards: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = TokenStream.__iter__
    monkeypatch.setattr(TokenStream, "__iter__", lambda self: islice(whole(self), 1, None))
    run = stream_epoch(shards, STREAMING, seed=3)
    assert run.missed == 300 - run.n_cells > 0
    with pytest.raises(CellsError, match=f"{run.missed} missed, 0 repeated"):
        run.require_each_cell_once()


def test_an_epoch_that_repeats_a_batch_is_an_error(
    shards: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = TokenStream.__iter__

    def twice(stream: TokenStream) -> Iterator[SeededTokens]:
        for number, batch in enumerate(whole(stream)):
            yield from (batch, batch) if number == 0 else (batch,)

    monkeypatch.setattr(TokenStream, "__iter__", twice)
    run = stream_epoch(shards, STREAMING, seed=3)
    assert run.repeated == run.n_cells - 300 > 0 and run.missed == 0
    with pytest.raises(CellsError, match=f"0 missed, {run.repeated} repeated"):
        run.require_each_cell_once()


def test_both_ways_of_tokenising_give_the_same_tokens(long_cells: Path) -> None:
    counts, tokenizer, adata = read_case(long_cells)
    assert all(adata.obs[c].dtype == "category" for c in counts.schema.phenotypes)
    ours, theirs = tokenizer(counts), tokenise_one_by_one(adata, tokenizer)
    assert len(ours) == 40
    for name, tensor in ours.tensors().items():
        assert torch.equal(tensor, theirs.tensors()[name]), name


def test_speed_is_given_for_both_ways(long_cells: Path) -> None:
    threads = torch.get_num_threads()
    speed = time_tokenising(*read_case(long_cells), loop_cells=10, batch=16)
    assert min(speed.ours, speed.with_normalising, speed.loop) > 0
    assert speed.ratio == speed.ours / speed.loop
    assert 20 < speed.genes_per_cell < 60
    assert torch.get_num_threads() == threads


def test_speed_is_not_given_where_tokens_differ(
    long_cells: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*given: object) -> TokenBatch:
        right = tokenise_one_by_one(*given)  # type: ignore[arg-type]
        return replace(right, input_ids_nt=right.input_ids_nt + 1)

    monkeypatch.setattr(benchmark_tokenising, "tokenise_one_by_one", wrong)
    with pytest.raises(TokenError, match="disagree in input_ids_nt"):
        time_tokenising(*read_case(long_cells), loop_cells=10, batch=16)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes of their own: the integration test starts them."""
    monkeypatch.setattr(
        benchmark_data, "in_fresh_process", lambda function, *given: function(*given)
    )


@pytest.mark.usefixtures("in_this_process")
def test_the_whole_benchmark_and_nothing_left_behind(tmp_path: Path) -> None:
    settings = replace(TOY, folder=str(tmp_path))
    findings = measure(settings, Console(quiet=True))
    assert list(tmp_path.iterdir()) == []
    parts = {figure.part for figure in findings.figures}
    assert parts == {"writing", "streaming", "tokenising"}
    assert findings["streaming", "cells missed, repeated"] == 0
    assert findings["streaming", "cells"] > 0 and findings["writing", "size"] > 0
    assert findings.tables["memory"]["cells"].iloc[-1] == 300
    goals = {f.name: f.goal for f in findings.figures if f.goal}
    assert goals == {
        "peak resident memory": "≤ 2000",
        "padding": "≤ 10",
        "cells missed, repeated": "≤ 0",
        "cells": "≥ 10000",
        "ours / loop": "≥ 30",
    }


@pytest.mark.usefixtures("in_this_process")
def test_shards_are_kept_on_request(tmp_path: Path) -> None:
    measure(replace(TOY, folder=str(tmp_path / "new"), keep=True), Console(quiet=True))
    assert len(list((tmp_path / "new").rglob("stream/shard_*.h5ad"))) == 3


def test_shards_go_also_when_something_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> StreamRun:
        assert list(tmp_path.rglob("*.h5ad"))
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark_data, "in_fresh_process", fail)
    with pytest.raises(KeyboardInterrupt):
        measure(replace(TOY, folder=str(tmp_path)), Console(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_noticed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9))
    with pytest.raises(OutputError, match=r"2\.8 GB; found 1\.0 GB free"):
        measure(Settings(folder=str(tmp_path)), Console(quiet=True))
    assert list(tmp_path.iterdir()) == []


def test_padding_and_growth_of_memory_are_figures() -> None:
    memory = tuple((cells, 100.0 + cells) for cells in range(0, 110, 10))
    run = StreamRun(100, 900, 1000, 1.0, 2.0, memory, 250.0, 0, 0)
    found = {f.name: f.value for f in streaming_figures(run)}
    assert found["padding"] == pytest.approx(10) and found["cells"] == 50
    assert found["memory, end less halfway"] == 50 and found["tokens"] == 450


@pytest.mark.parametrize("wrong", [{"cells": 0}, {"block_cells": 4096}, {"workers": -1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        Settings(**wrong)  # type: ignore[arg-type]
