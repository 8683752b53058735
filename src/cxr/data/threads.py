"""Apply a function to many images at once, in threads."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from os import cpu_count
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

BLOCK = 1000  # items that are queued at once: a queued item takes 2 kB


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item], description: str
) -> list[Result]:
    """Apply ``function`` to every item, with one thread per core and a progress bar.

    Threads suffice, because Pillow and hashlib release Python's lock; unlike processes, they share
    the open archive and the memory map.

    Returns:
        The results in the order of the items.

    Raises:
        Exception: the first error that ``function`` raises, in the order of the items.
    """
    items = list(items)
    with ThreadPoolExecutor(cpu_count()) as pool:
        results = chain.from_iterable(
            pool.map(function, items[start : start + BLOCK])
            for start in range(0, len(items), BLOCK)
        )
        return list(tqdm(results, description, total=len(items), mininterval=0.5))
