"""Threads: one function applied to many images at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def parallel_map(
    function: Callable[[Item], Result], items: Iterable[Item], description: str
) -> list[Result]:
    """Apply ``function`` to every item, one thread a core, with a progress bar.

    Threads rather than processes, because Pillow and hashlib release Python's lock, and threads
    share the open archive and the memory map.

    Returns:
        The results in the order of the items.

    Raises:
        Exception: the first error, by the order of the items, that ``function`` raises.
    """
    items = list(items)
    with ThreadPoolExecutor(cpu_count()) as pool:
        results = pool.map(function, items)
        return list(tqdm(results, description, total=len(items), mininterval=0.5))
