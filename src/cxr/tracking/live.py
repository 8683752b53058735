"""Log a training in MLflow while it runs: each epoch, and whether it failed."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cxr.tracking import client, records
from cxr.tracking.provenance import Started

if TYPE_CHECKING:  # client imports it, after it has set the variables that mlflow reads
    import mlflow

PROCESS = "cxr.process"  # tag: host and process id of the training


class Live:
    """The MLflow run of a training. If the server fails, training continues without it."""

    def __init__(self, started: Started) -> None:
        self.run_id = ""
        self.server: mlflow.MlflowClient | None = None
        provenance = started.provenance
        self._latest = records.milliseconds(provenance["started"])
        with client.optional("the training's progress"):
            server = client.connect()
            experiment_id = client.experiment(server, provenance["mlflow_experiment"])
            system = str(provenance["item"])
            _end_abandoned(server, experiment_id, system)
            own = {"stage": "train", "system": system, client.id_tag("train"): provenance["id"]}
            own[PROCESS] = f"{socket.gethostname()} {os.getpid()}"
            run = server.create_run(
                experiment_id, run_name=f"train {system}", tags=own | records.tags(provenance),
                start_time=records.milliseconds(provenance["started"]),
            )  # fmt: skip
            self.run_id, self.server = run.info.run_id, server

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Log the metrics of an epoch, counted from 1.

        After a failure no further epoch is logged; :func:`cxr.tracking.client.write` logs them at
        the end.
        """
        server, self.server = self.server, None
        if server is not None:
            with client.optional("the training's progress"):
                # Never back, as a clock may be set: MLflow returns the epochs in this order.
                self._latest = max(self._latest, int(time.time() * 1000))
                sent = client.metrics(records.numbers(values), self._latest, number)
                server.log_batch(self.run_id, metrics=sent)
                self.server = server

    def failed(self, status: str) -> None:
        """Mark the run as FAILED or KILLED."""
        if self.server is not None:
            with client.optional("the training's end"):
                self.server.set_terminated(self.run_id, status)


@contextmanager
def live(started: Started) -> Iterator[Live]:
    """Yield the run of a training, and mark it as FAILED or KILLED if the block raises."""
    run = Live(started)
    try:
        yield run
    except BaseException as error:
        run.failed("KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED")
        raise


def _end_abandoned(server: "mlflow.MlflowClient", experiment_id: str, system: str) -> None:
    """Mark the system's runs as KILLED if their process ended without marking them."""
    named = f"tags.stage = 'train' and tags.system = '{system}' and attributes.status = 'RUNNING'"
    for run in server.search_runs([experiment_id], named):
        host, _, process = run.data.tags.get(PROCESS, "").rpartition(" ")
        if host == socket.gethostname() and not _is_alive(int(process)):
            server.set_terminated(run.info.run_id, "KILLED")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process
        return True
    return True
