"""Write a system's initial weights to weights/<system>/: ImageNet's, a file's, or none (random).

Only this stage and download may need a network; training reads this stage's output.
"""

import logging

from cxr import params
from cxr.models import origin
from cxr.tracking import provenance
from stages import WEIGHTS, add_system, finish, parser, run

log = logging.getLogger(__name__)


def work(settings: params.Params, system: str) -> None:
    chosen, folder = settings.system(system), WEIGHTS / system
    used = provenance.chosen(settings, f"systems.{system}.backbone", f"systems.{system}.weights")
    started = provenance.start("weights", settings, used, [], system)
    if chosen.weights is None:
        log.info("weights: null, so %s starts from random weights", chosen.backbone)
        origin.write(folder, chosen.backbone, None, None)
        provenance.finish(started, folder)
        return  # there is nothing to log, and MLflow and Keras take seconds to import

    import keras

    from cxr.models import weights

    keras.config.set_image_data_format("channels_last")  # whatever the user's keras.json says
    weights.resolve(chosen, folder)
    finish(started, folder)


if __name__ == "__main__":
    arguments = parser(__doc__)
    add_system(arguments)
    run(work, arguments)
