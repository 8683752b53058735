"""A model's predictions of shifted images, which are made while the network computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from os import cpu_count
from typing import TypeVar

import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from cxr.shifts import images, sets

Item = TypeVar("Item")
Result = TypeVar("Result")


def predict(
    model: keras.Model,
    load: Callable[[int], np.ndarray],
    tasks: pd.DataFrame,
    batch_size: int,
    seed: int,
) -> pd.DataFrame:
    """Predict images under shifts; each runs through the network once.

    A batch may hold several kinds. Few batches exist at any time, however many tasks there are.

    Args:
        model: takes uint8 [batch, size, size, 1] and gives the probability of PNEUMONIA.
        load: returns the image of a row, uint8 [size, size]; called from several threads.
        tasks: from :func:`cxr.shifts.sets.tasks`.
        batch_size: images per batch.
        seed: ``seed`` of params.yaml. The draws of an image and shift depend on nothing else.

    Returns:
        The tasks in their order without ``row``, and ``probability``, 0 to 1, with 7 digits.

    Raises:
        InputError: an image cannot be loaded.
    """
    rows = list(tasks[["kind", "strength", "id", "label", "row"]].itertuples(index=False))

    def made(start: int) -> np.ndarray:
        batch = [
            images.shifted_image(load, sets.Shift(kind, strength), name, label, row, seed)
            for kind, strength, name, label, row in rows[start : start + batch_size]
        ]
        # Filled with copies of the last image: TensorFlow traces a model for every batch size.
        batch += batch[-1:] * (batch_size - len(batch))
        return np.stack(batch)[..., np.newaxis]

    probabilities = np.empty(len(rows), "float32")
    starts = range(0, len(rows), batch_size)
    with tqdm(total=len(rows), desc="shifted images", unit="image", mininterval=0.5) as bar:
        for start, batch in zip(starts, _ahead(made, starts), strict=True):
            of_batch = rows[start : start + batch_size]
            outputs = np.asarray(model.predict_on_batch(batch))[: len(of_batch), 0]
            probabilities[start : start + len(of_batch)] = outputs
            bar.update(len(of_batch))
    columns = tasks[list(sets.COLUMNS)]
    return columns.assign(probability=probabilities.astype("float64").round(7))


def _ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield ``function`` of each item in order; threads work on the next few meanwhile."""
    workers = cpu_count() or 1
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
