"""The content of an MLflow run, and how it is put together from a stage's provenance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cxr.tracking import metrics, notes
from cxr.tracking.datasets import Dataset
from cxr.tracking.provenance import NAME, title

# The tags of the run as a whole. An evaluation in its training's run does not change them.
OF_RUN = ("mlflow.user", "mlflow.source.name", "mlflow.source.type")

# A stage with more inputs has no tags for them; the artifact provenance.json lists them all.
INPUT_TAGS = 100


@dataclass(frozen=True)
class Record:
    """The content of the MLflow run of one execution of a stage.

    Attributes:
        id: of the stage's provenance.
        folder: of the stage's outputs.
        stage: its name in dvc.yaml.
        item: the system or the image size, for a stage with one run for each.
        experiment: name of the MLflow experiment when the stage ran.
        started: milliseconds since 1970.
        ended: milliseconds since 1970.
        params: by dotted name.
        tags: by name.
        metrics: finite numbers, by name, for example ``test/auc``.
        note: the run's description, in Markdown.
        datasets: the images that the stage used or made.
        epochs: for each epoch, its end in milliseconds since 1970 and its metrics, for example
            ``epoch/val_loss``.
        artifacts: names of files in the folder.
        has_model: whether the folder holds a Keras model to log.
        requirements: packages that loading the model needs, for example ``keras==3.15.1``.
        weights: system and MD5 of the trained weights, equal for a training and its evaluations.
        training: of an evaluation, the record of the model's training, if ``models/`` has it.
    """

    id: str
    folder: Path
    stage: str
    item: str | None
    experiment: str
    started: int
    ended: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    artifacts: Sequence[str]
    note: str = ""
    datasets: Sequence[Dataset] = ()
    epochs: Sequence[tuple[int, Mapping[str, float]]] = ()
    has_model: bool = False
    requirements: Sequence[str] = ()
    weights: str | None = None
    training: "Record | None" = None

    @property
    def name(self) -> str:
        """The run's name in the UI."""
        return " ".join(filter(None, (self.stage, self.item)))


def build(
    folder: Path,
    provenance: Mapping[str, Any],
    parameters: Mapping[str, Any],
    artifacts: Iterable[str],
    figures: Mapping[str, Any] | None = None,
    images: Sequence[Dataset] = (),
    note: str | None = None,
    extra: Mapping[str, str] | None = None,
    prefix: str = "",
    **more: Any,
) -> Record:
    """Build a record: the parts that all stages share, and those given."""
    everything = tags(provenance) | dict(extra or {})
    if prefix:
        everything = {name: v for name, v in everything.items() if name not in OF_RUN}
    of_system = ("weights", "features", "shifted", "train", "shift", "evaluate", "ensemble")
    system = {"system": folder.name} if provenance["stage"] in of_system else {}
    return Record(
        id=provenance["id"],
        folder=folder,
        stage=provenance["stage"],
        item=provenance["item"],
        experiment=provenance["mlflow_experiment"],
        started=milliseconds(provenance["started"]),
        ended=milliseconds(provenance["ended"]),
        params={name: str(value) for name, value in metrics.flat(parameters).items()},
        tags=system | {f"{prefix}{name}": value for name, value in everything.items()},
        metrics=metrics.numbers(figures or {}),
        artifacts=list(dict.fromkeys([*artifacts, NAME])),
        datasets=images,
        note=note or notes.written(f"Stage {title(provenance)}", provenance, images),
        **more,
    )


def tags(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return a run's tags from its provenance, which may be that of an unfinished stage."""
    inputs = provenance["inputs"] if len(provenance["inputs"]) <= INPUT_TAGS else {}
    named = {
        "mlflow.user": provenance.get("user"),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": f"stages/{provenance['stage']}.py",
        "mlflow.source.git.commit": provenance["git"]["commit"],
        "git.changed": str(bool(provenance["git"]["changed"])).lower(),
        "dvc.experiment": provenance["dvc"]["experiment"],
        "dvc.baseline": provenance["dvc"]["baseline"],
        "device": provenance.get("device"),
        "cores": str(provenance["cores"]) if "cores" in provenance else None,
        **{f"version.{name}": number for name, number in provenance.get("versions", {}).items()},
        **{f"dvc.md5.{path}": md5 for path, md5 in inputs.items()},
    }
    return {name: value for name, value in named.items() if value is not None}


def milliseconds(moment: str) -> int:
    """Return an ISO time in milliseconds since 1970, as MLflow expects it."""
    return round(1000 * datetime.fromisoformat(moment).timestamp())
