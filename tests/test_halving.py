"""What does not fit is halved, in order, its memory given back; what fits is remembered."""

from __future__ import annotations

import gc
import logging
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gradgene.halving import TokenLimit, TooLargeError, in_halves, limit_of, out_of_memory, tried

pytestmark = pytest.mark.usefixtures("small_heap")


def raised_by_torch() -> BaseException:
    """What the allocator of this machine says of two exabytes."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 61, dtype=torch.uint8)
    return caught.value


def raised_by_numpy() -> BaseException:
    """What numpy says of four exabytes."""
    with pytest.raises(MemoryError) as caught:
        np.ones(1 << 59)
    return caught.value


def test_what_allocators_really_raise() -> None:
    assert type(raised_by_torch()) is RuntimeError and out_of_memory(raised_by_torch())
    assert out_of_memory(raised_by_numpy())


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB"), True),
        (torch.cuda.OutOfMemoryError("out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("[alloc] DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (TooLargeError("prediction", 0, 10), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_out_of_memory(error: BaseException, is_memory: bool) -> None:
    assert out_of_memory(error) is is_memory


class Machine:
    """Doubles rows, at most so many at a time."""

    def __init__(self, fits: int) -> None:
        self.fits, self.tried = fits, [0] * 0

    def __call__(self, rows: Tensor) -> Tensor:
        self.tried.append(len(rows))
        if len(rows) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 2 * rows


@given(n=st.integers(1, 200), fits=st.integers(1, 250), known=st.none() | st.integers(1, 99))
def test_every_row_once_in_order(n: int, fits: int, known: int | None) -> None:
    machine, limit = Machine(fits), TokenLimit("work", known)
    found = torch.cat(in_halves(machine, torch.arange(n), len, limit))
    assert found.tolist() == [2 * i for i in range(n)]
    assert all(size <= (known or n) or size == 1 for size in machine.tried)
    if n <= min(fits, known or n):
        assert machine.tried == [n] and limit.tokens == known
    again = Machine(fits)
    in_halves(again, torch.arange(n), len, limit)
    assert max(again.tried) <= fits, "what failed once is not tried again"


def test_the_limit_is_halved_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    machine, limit = Machine(3), TokenLimit("prediction")
    with caplog.at_level(logging.WARNING):
        in_halves(machine, torch.arange(16), lambda rows: 10 * len(rows), limit)
        in_halves(machine, torch.arange(16), lambda rows: 10 * len(rows), limit)
    assert limit.tokens == 20 and machine.tried == [16, 8, 4, *[2] * 16]
    said = "prediction: 160 tokens at a time do not fit in memory; going on with 20"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_tokens_are_not_counted_where_all_fits() -> None:
    def count(rows: Tensor) -> int:
        raise AssertionError

    assert len(in_halves(Machine(99), torch.arange(9), count, TokenLimit("work"))) == 1


def test_a_row_that_does_not_fit_is_named() -> None:
    def work(rows: Tensor) -> None:
        if 5 in rows.tolist():
            raise MemoryError

    with pytest.raises(TooLargeError, match=r"prediction: .*memory even alone; found 700 tok") as e:
        in_halves(work, torch.arange(8), lambda rows: 700 * len(rows), TokenLimit("prediction"))
    assert e.value.row == 5 and e.value.n_tokens == 700 and "trainer=gpu" in str(e.value)


def test_other_errors_are_not_held_back() -> None:
    def work(rows: Tensor) -> None:
        raise ValueError("another")

    with pytest.raises(ValueError, match="another"):
        in_halves(work, torch.arange(8), len, TokenLimit("work"))


def test_the_memory_of_a_try_is_given_back_before_the_next() -> None:
    """Also where an error was raised on top of the first, and frames hold each other."""
    held: list[weakref.ref[Tensor]] = []

    def deeper(block: Tensor) -> None:
        held.append(weakref.ref(block))
        me = {"block": block}
        me["me"] = me  # type: ignore[assignment]
        raise MemoryError

    def work(rows: Tensor) -> int:
        assert all(block() is None for block in held)
        if len(rows) > 1:
            try:
                deeper(torch.ones(10))
            except MemoryError as error:
                raise RuntimeError("out of memory") from error
        return len(rows)

    gc.disable()
    try:
        assert in_halves(work, torch.arange(4), len, TokenLimit("work")) == [1] * 4
        assert len(held) == 2
    finally:
        gc.enable()


def test_a_limit_lives_as_long_as_its_model() -> None:
    model, other = nn.Linear(1, 1), nn.Linear(1, 1)
    limit_of(model, "prediction").lower(100)
    assert limit_of(model, "prediction").tokens == 50
    assert limit_of(model, "deeplift").tokens is limit_of(other, "prediction").tokens is None
    before = weakref.ref(limit_of(model, "prediction"))
    del model
    gc.collect()
    assert before() is None


def test_tried_gives_a_result_or_nothing() -> None:
    assert tried(lambda: None) == [None]
    assert tried(raise_memory_error) == []


def raise_memory_error() -> None:
    """As an allocator does."""
    raise MemoryError
