"""Evaluate the mean of several systems: evaluations/, shifts/ -> ensembles/<name>/."""

from cxr import ensemble, files, params
from cxr.evaluation import evaluation, shift
from cxr.tracking import provenance
from stages import ENSEMBLES, EVALUATIONS, SHIFTS, SPLITS, finish, parser, run


def work(settings: params.Params, name: str) -> None:
    folder, members = ENSEMBLES / name, settings.ensemble(name)
    used = provenance.chosen(settings, "seed", "evaluate", f"ensembles.{name}")
    inputs = [SPLITS / "manifest.csv"]
    for system in members:
        inputs += ensemble.paths(system, EVALUATIONS, SHIFTS)
    started = provenance.start("ensemble", settings, used, inputs, name)
    manifest = files.read_csv(SPLITS / "manifest.csv")
    read = [ensemble.read(system, EVALUATIONS, SHIFTS, manifest) for system in members]
    predicted, shifted = ensemble.mean(read)
    result = evaluation.evaluate(predicted, shifted, settings.evaluate, settings.seed)
    table, result["shift"] = shift.evaluate(shifted, result["threshold"], settings.seed)
    evaluation.write(predicted, {"members": list(members), **result}, folder)
    files.write_csv(folder / "shift.csv", table)
    finish(started, folder)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("name", help="name of an ensemble in params.yaml")
    run(work, arguments)
