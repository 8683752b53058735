"""Log a training in MLflow while it runs: each epoch, the machine's load, and how it ended."""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mlflow
from mlflow.entities import Run, RunStatus, RunTag
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking._tracking_service.utils import _get_store

from cxr.tracking import metrics, record, server
from cxr.tracking.provenance import Started

log = logging.getLogger(__name__)

PROCESS = "cxr.process"  # tag: host and process id of the training


class Live:
    """The MLflow run of a training. If the server fails, training continues without it.

    A resumed training has the id of its first sitting (see :func:`cxr.tracking.provenance.sitting`)
    and continues its run: the status is RUNNING again, and epochs that the run has already are not
    logged twice.
    """

    def __init__(self, started: Started) -> None:
        self.run_id = ""
        self.client: mlflow.MlflowClient | None = None
        self.known: set[tuple[str, int]] = set()  # (metric, epoch) of earlier sittings
        self.monitor: Any = None
        provenance = started.provenance
        self._latest = record.milliseconds(provenance["started"])
        with server.optional("the training's progress"):
            client = server.connect()
            experiment_id = server.experiment(client, provenance["mlflow_experiment"])
            system = str(provenance["item"])
            own = {"stage": "train", "system": system, PROCESS: _process()}
            own[server.id_tag("train")] = provenance["id"]
            tags = own | record.tags(provenance)
            run = _find(client, experiment_id, provenance["id"])
            is_new = run is None
            if run is None:
                run = client.create_run(
                    experiment_id, run_name=f"train {system}", tags=tags,
                    start_time=record.milliseconds(provenance["started"]),
                )  # fmt: skip
            else:
                _reopen(client, run, tags)
                self.known = server.logged(client, run.info.run_id, _curves(run))
                log.info("continuing MLflow run %s", run.info.run_id)
            self.run_id = run.info.run_id
            _end_abandoned(client, experiment_id, system)
            self.monitor = _monitored(self.run_id, is_new)
            self.client = client

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Log the metrics of an epoch, counted from 1, unless the run has them already.

        After a failure no further epoch is logged; :func:`cxr.tracking.client.write` logs them at
        the end.
        """
        client, self.client = self.client, None
        if client is not None:
            with server.optional("the training's progress"):
                # Never back, as a clock may be set: MLflow returns the epochs in this order.
                self._latest = max(self._latest, int(time.time() * 1000))
                sent = server.metrics(metrics.of_epoch(values), self._latest, number)
                sent = [metric for metric in sent if (metric.key, metric.step) not in self.known]
                if sent:
                    client.log_batch(self.run_id, metrics=sent)
                self.client = client

    def failed(self, status: str) -> None:
        """Mark the run as FAILED or KILLED."""
        if self.client is not None:
            with server.optional("the training's end"):
                self.client.set_terminated(self.run_id, status)

    def stop(self) -> None:
        """Stop logging the machine's load, and do not wait long for a server that hangs."""
        if self.monitor is not None:
            # It logs a failure, and raises none.
            ending = threading.Thread(target=self.monitor.finish, daemon=True)
            ending.start()
            ending.join(server.ANSWER_SECONDS)


@contextmanager
def live(started: Started) -> Iterator[Live]:
    """Yield the run of a training, and mark it as FAILED or KILLED if the block raises."""
    run = Live(started)
    try:
        yield run
    except BaseException as error:
        run.failed("KILLED" if isinstance(error, KeyboardInterrupt | SystemExit) else "FAILED")
        raise
    finally:
        run.stop()


def _find(client: mlflow.MlflowClient, experiment_id: str, training: str) -> Run | None:
    """Return the run that an earlier sitting of a training began."""
    named = f"tags.`{server.id_tag('train')}` = '{training}'"
    newest = ["attributes.start_time DESC"]
    return next(iter(client.search_runs([experiment_id], named, order_by=newest)), None)


def _reopen(client: mlflow.MlflowClient, run: Run, tags: Mapping[str, str]) -> None:
    """Set a run to RUNNING, without an end, and give it the tags of this sitting."""
    # MlflowClient.update_run keeps the end of the earlier sitting. 0 is how MLflow's protocol says
    # that there is none.
    store = _get_store()  # type: ignore[no-untyped-call]
    store.update_run_info(run.info.run_id, RunStatus.RUNNING, 0, None)
    if server.complete_tag("train") in run.data.tags:  # stopped after its end, and trained again
        client.delete_tag(run.info.run_id, server.complete_tag("train"))
    changed = [RunTag(k, v) for k, v in tags.items() if run.data.tags.get(k) != v]
    client.log_batch(run.info.run_id, tags=changed)


def _curves(run: Run) -> set[str]:
    """Return the names of a run's metrics that have a value per epoch."""
    return {name for name in run.data.metrics if name.startswith(("epoch/", "schedule/"))}


def _monitored(run_id: str, is_new: bool) -> Any:
    """Start a thread that logs the load of CPU, memory and GPU, and return it; None on failure.

    It logs every ten seconds, or as often as MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL says, and ends
    by itself if the server fails. No output holds what it logs, so `cxr sync` cannot rebuild it.
    """
    monitor: Any = SystemMetricsMonitor
    try:
        started = monitor(run_id, resume_logging=not is_new, tracking_uri=server.uri())
        started.start()
    except Exception as error:  # psutil and NVML fail in many ways, none of which matters here
        log.warning("the load of CPU, memory and GPU will not be logged (%s)", error)
        return None
    return started


def _end_abandoned(client: mlflow.MlflowClient, experiment_id: str, system: str) -> None:
    """Mark the system's runs as KILLED if their process ended without marking them."""
    named = f"tags.stage = 'train' and tags.system = '{system}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment_id], named):
        host, _, process = run.data.tags.get(PROCESS, "").rpartition(" ")
        if host == socket.gethostname() and not _is_alive(int(process)):
            client.set_terminated(run.info.run_id, "KILLED")


def _process() -> str:
    return f"{socket.gethostname()} {os.getpid()}"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process
        return True
    return True
