"""Threads: results in the items' order, and the first error."""

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


def test_an_error_in_a_thread_is_raised():
    def fail_at_three(item: int) -> int:
        if item == 3:
            message = "item 3"
            raise InputError(message)
        return item

    with pytest.raises(InputError, match="item 3"):
        threads.parallel_map(fail_at_three, range(5), "an error")
