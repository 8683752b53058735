"""Bring a system's initial weights into weights/<system>/: ImageNet's, a file's, or none.

The one stage, beside download, that may need the network: training reads only what it leaves.
"""

from cxr import params, tracking
from cxr.models import weights
from stages import WEIGHTS, add_system, parser, run


def work(settings: params.Params, system: str) -> None:
    weights.resolve(settings.system(system), WEIGHTS / system)
    tracking.write(settings.tracking, tracking.weights(WEIGHTS / system))


if __name__ == "__main__":
    arguments = parser(__doc__)
    add_system(arguments)
    run(work, arguments)
