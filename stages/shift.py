"""Predict shifted images with a trained system: tensors/, models/<system>/ -> shifts/<system>/."""

import pandas as pd

from cxr import files, params
from cxr.data import cache
from cxr.models import store
from cxr.shifts import hospitals, sets, sheet, shifted
from cxr.tracking import provenance
from cxr.training import device
from stages import EXTERNALS, MODELS, SHIFTS, TENSORS, add_system, finish, parser, run


def work(settings: params.Params, system: str) -> None:
    tensors = TENSORS / str(settings.system(system).image_size)
    trained, folder = MODELS / system, SHIFTS / system
    keys = ("seed", "shift", "tensors", "training.deterministic", "inference_batch_size")
    used = provenance.chosen(settings, *keys, "evaluate.external")
    inputs = [tensors / "images.npy", tensors / "index.csv"]
    inputs += [EXTERNALS / name for name in settings.evaluate.external]
    inputs += [trained / name for name in (store.ARCHITECTURE, store.WEIGHTS, store.PHASES)]
    started = provenance.start("shift", settings, used, inputs, system)
    device.set_deterministic(settings.training)
    hardware = device.find()
    device.keep_memory(hardware)
    images, index = cache.open_cache(tensors)
    model, load = store.load(trained), images.__getitem__
    batch_size, seed = settings.inference_batch_size, settings.seed
    tasks = sets.tasks(index, settings.shift.images, seed)
    predicted = shifted.predict(model, load, tasks, batch_size, seed)
    others = hospitals.predict(
        model, EXTERNALS, list(settings.evaluate.external), settings.tensors, batch_size, seed
    )
    table = pd.concat([predicted, *others], ignore_index=True)
    files.write_csv(folder / "predictions.csv", table)
    with files.replacing(folder / "samples.png") as temporary:
        sheet.draw(load, index, seed).save(temporary)
    finish(started, folder, device=hardware.name)


if __name__ == "__main__":
    arguments = parser(__doc__)
    add_system(arguments)
    run(work, arguments)
