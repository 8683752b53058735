"""Threads: results in the items' order, and the first error."""

import threading
import time

import pytest

from cxr.data import threads
from cxr.errors import InputError


def test_results_are_in_the_order_of_the_items():
    def slow_first(item: int) -> int:
        time.sleep(0.02 * (item == 0))
        return item * item

    assert threads.parallel_map(slow_first, range(5), "squares") == [0, 1, 4, 9, 16]
    assert threads.parallel_map(slow_first, [], "nothing") == []


def test_results_stay_in_order_over_several_blocks(monkeypatch):
    monkeypatch.setattr(threads, "BLOCK", 3)
    assert threads.parallel_map(str, range(8), "blocks") == list("01234567")


def test_only_one_block_is_queued_at_a_time(monkeypatch):
    """Or a hundred thousand images would take 200 MB before the first is decoded."""
    monkeypatch.setattr(threads, "BLOCK", 2)
    monkeypatch.setattr(threads, "cpu_count", lambda: 2)
    began: set[int] = set()
    third = threading.Event()

    def work(item: int) -> None:
        began.add(item)
        if item == 2:
            third.set()
        if item == 1:
            assert not third.wait(0.2)
            message = "item 1"
            raise InputError(message)

    with pytest.raises(InputError, match="item 1"):
        threads.parallel_map(work, range(9), "blocks")
    assert began == {0, 1}


def test_an_error_in_a_thread_is_raised():
    def fail_at_three(item: int) -> int:
        if item == 3:
            message = "item 3"
            raise InputError(message)
        return item

    with pytest.raises(InputError, match="item 3"):
        threads.parallel_map(fail_at_three, range(5), "an error")
