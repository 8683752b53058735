"""Synthetic chest X-rays ("phantoms"): a sample data set that can be shipped with the code.

Each image is drawn from a seed as an X-ray is made: every organ adds to (or, for air, takes away
from) the absorption along the ray through a pixel, and a tone curve turns the sum into grey values.
Ribs therefore shine through the heart, and an opacity hides the vessels that it surrounds.

The archive has the layout, the names and the traps of Kermany's chest X-rays (several images of a
patient, one person number for two patients, pixel-equal files, RGB files, odd sizes), and none of
their acquisition shortcuts: size, mode, JPEG quality and exposure follow the same distribution in
both classes.

    python -m tools.phantom --out data/phantoms.zip --seed 0    # 300 images, 15 s on one core
"""

from tools.phantom.archive import write_archive

__all__ = ["write_archive"]
