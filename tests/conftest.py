"""What every test shares: one thread, reproducible Hypothesis, and the way to `../shared`."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:  # torch takes seconds to import, and the house tests have one
    from gradgene.cells import Cells
    from gradgene.models import PhenotypeGeneTransformer
    from gradgene.pairs import BlendedBatch
    from gradgene.tokens import TokenBatch, Tokenizer

REPOSITORY = Path(__file__).resolve().parents[1]

# No deadline and no database: the same examples on a busy machine, in every worker, on every run.
settings.register_profile(
    "gradgene", deadline=None, derandomize=True, max_examples=30, database=None
)
settings.load_profile("gradgene")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Keep xdist workers from fighting over cores; leaves torch alone where no test needs it."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_cache_between_tests() -> Iterator[None]:
    """What is made for several tests shares no stages with anything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADGENE_CACHE", "")
        yield


@pytest.fixture(autouse=True)
def environment_as_before() -> Iterator[None]:
    """Give the environment back: Lightning, W&B and Hydra write into that of the process."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="module")
def small_heap() -> Iterator[None]:
    """What is there already is no garbage: looking through it takes most of `gc.collect`."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def stage_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage cache of this test alone, also for processes it starts; made when it is used."""
    folder = tmp_path_factory.getbasetemp() / f"stage-cache-{uuid.uuid4().hex}"
    monkeypatch.setenv("GRADGENE_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data, fixtures and references; skips the test where there is none."""
    folder = Path(os.environ.get("GRADGENE_SHARED", REPOSITORY.parent / "shared")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set GRADGENE_SHARED to the folder with data and fixtures")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: at the end no worker waits for another that has one of them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run."""
    if item.get_closest_marker("gpu"):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
    if item.get_closest_marker("ray") and importlib.util.find_spec("ray") is None:
        pytest.skip("needs gradgene[ray], which has an environment of its own: make test-ray")
    if item.get_closest_marker("network") and os.environ.get("GRADGENE_NETWORK") != "1":
        pytest.skip("reaches the internet: set GRADGENE_NETWORK=1")


@pytest.fixture
def tiny_cells() -> Cells:
    """60 cells x 50 genes of counts with planted genes; see `tests.planted` for variants."""
    from tests.planted import make_cells

    return make_cells()


@pytest.fixture
def tiny_tokenizer(tiny_cells: Cells) -> Tokenizer:
    """A tokenizer of everything in `tiny_cells`."""
    from tests.planted import make_tokenizer

    return make_tokenizer(tiny_cells)


@pytest.fixture
def tiny_tokens(tiny_cells: Cells, tiny_tokenizer: Tokenizer) -> TokenBatch:
    """`tiny_cells` as tokens, rows in their order."""
    return tiny_tokenizer(tiny_cells)


@pytest.fixture
def tiny_model(tiny_tokenizer: Tokenizer) -> PhenotypeGeneTransformer:
    """A random float64 model of two layers with uneven attention, in evaluation mode."""
    from tests.planted import make_model

    return make_model(tiny_tokenizer.vocabulary)


@pytest.fixture
def tiny_pairs(tiny_cells: Cells, tiny_tokens: TokenBatch) -> BlendedBatch:
    """Eight case/control pairs of the same cell type, blended; no category is masked."""
    from tests.planted import make_pairs

    return make_pairs(tiny_cells, tiny_tokens)
