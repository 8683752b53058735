"""A system's probabilities, as its evaluation takes them."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Predictions:
    """A model's probabilities of PNEUMONIA, 0 to 1.

    Attributes:
        images: one row per image, after the last phase: id, split, label, patient, probability.
        phases: one row per phase and test image: phase, id, label, patient, probability, and
            perturbed_probability, that of the perturbed image.
    """

    images: pd.DataFrame
    phases: pd.DataFrame
