"""The MLflow run of a training that is under way: its epochs as they come, and how it ended."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cxr.tracking import client, records
from cxr.tracking.provenance import Started

if TYPE_CHECKING:  # client imports it, after it has set what mlflow reads then
    import mlflow

PROCESS = "cxr.process"  # tag: host and process that the training runs in


class Live:
    """A run that may lose its server; training then goes on without it."""

    def __init__(self, started: Started) -> None:
        self.run_id = ""
        self.server: mlflow.MlflowClient | None = None
        note = started.note
        with client.optional("the training's progress"):
            server = client.connect()
            experiment_id = client.experiment(server, note["mlflow_experiment"])
            system = str(note["item"])
            _end_abandoned(server, experiment_id, system)
            own = {"stage": "train", "system": system, client.id_tag("train"): note["id"]}
            own[PROCESS] = f"{socket.gethostname()} {os.getpid()}"
            run = server.create_run(
                experiment_id, run_name=f"train {system}", tags=own | records.tags(note),
                start_time=records.milliseconds(note["started"]),
            )  # fmt: skip
            self.run_id, self.server = run.info.run_id, server

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Log the metrics of an epoch, counted from 1.

        After a failure no further epoch is sent: :func:`cxr.tracking.client.write` sends them all.
        """
        server, self.server = self.server, None
        if server is not None:
            with client.optional("the training's progress"):
                now = int(time.time() * 1000)
                sent = client.metrics(records.numbers(values), now, number)
                server.log_batch(self.run_id, metrics=sent)
                self.server = server

    def failed(self, status: str) -> None:
        """Mark the run as FAILED or KILLED."""
        if self.server is not None:
            with client.optional("the training's end"):
                self.server.set_terminated(self.run_id, status)


@contextmanager
def live(started: Started) -> Iterator[Live]:
    """Give the run of a training; where the block fails, the run says so."""
    run = Live(started)
    try:
        yield run
    except BaseException as error:
        run.failed("KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED")
        raise


def _end_abandoned(server: "mlflow.MlflowClient", experiment_id: str, system: str) -> None:
    """Mark runs as KILLED whose process was, before it could say so."""
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
    except PermissionError:  # another user's
        return True
    return True
