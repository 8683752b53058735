"""Compare the systems and write the report to reports/.

It reads weights/, models/, evaluations/, ensembles/ and audits/.
"""

import logging

from cxr import models, params, sweep
from cxr.report import page, results, states
from cxr.tracking import provenance
from stages import (
    AUDITS,
    ENSEMBLES,
    EVALUATIONS,
    MODELS,
    RAW,
    REPORTS,
    SOURCES,
    SPLITS,
    WEIGHTS,
    finish,
    parser,
    run,
)  # fmt: skip

log = logging.getLogger(__name__)


def work(settings: params.Params) -> None:
    keys = ("seed", "freeze_blocks", "split", "tensors", "perturbation", "systems")
    used = provenance.chosen(settings, *keys, "ensembles", "evaluate")
    inputs = [
        RAW / "source.json", SPLITS / "manifest.csv", SPLITS / "summary.json", WEIGHTS, MODELS,
        EVALUATIONS, ENSEMBLES, AUDITS, SOURCES / "published.yaml", SOURCES / sweep.FILE,
    ]  # fmt: skip
    started = provenance.start("compare", settings, used, inputs)
    published = SOURCES / "published.yaml"
    # `dvc repro` evaluates all systems first. The demo runs only some of them, and others may fail.
    found = states.states(settings.systems, WEIGHTS, MODELS, EVALUATIONS)
    systems = [name for name, state in found.items() if state == states.EVALUATED]
    collected = results.collect(systems, MODELS, WEIGHTS, EVALUATIONS, published)
    shared = results.context(
        settings, found, SPLITS / "manifest.csv", SPLITS / "summary.json", RAW / "source.json",
        AUDITS, SOURCES / sweep.FILE, ENSEMBLES,
    )  # fmt: skip
    log.info("\n%s\n", page.write(collected, shared, REPORTS))
    # DVC skips an evaluation if a new training gave the same weights. Without this, the run of that
    # training would lack the test metrics.
    finish(started, REPORTS, models.load, [EVALUATIONS / name for name in systems])


if __name__ == "__main__":
    run(work, parser(__doc__))
