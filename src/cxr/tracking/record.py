"""The content of an MLflow run: what one execution of a stage leaves behind to be logged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr.tracking.datasets import Dataset


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
