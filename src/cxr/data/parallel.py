"""Work on many images at once."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], what: str) -> list[Result]:
    """Do ``work`` on every item on all cores, with a progress bar; results in the items' order.

    Threads, not processes: Pillow and the hashes let go of Python's lock, and the archive and the
    memory map are shared.
    """
    items = list(items)
    with ThreadPoolExecutor(cpu_count()) as pool:
        return list(tqdm(pool.map(work, items), what, total=len(items), mininterval=0.5))
