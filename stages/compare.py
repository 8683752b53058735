"""Compare the systems and write the report to reports/.

It reads weights/, models/, evaluations/, ensembles/ and audits/.
"""

import logging

from cxr import models, params, sweep
from cxr.report import page, results
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
    # `dvc repro` evaluates all systems first; the demo runs only some of them.
    systems = [name for name in settings.systems if (EVALUATIONS / name / "metrics.json").is_file()]
    collected = results.collect(systems, MODELS, WEIGHTS, EVALUATIONS, published)
    shared = results.context(
        settings, SPLITS / "manifest.csv", SPLITS / "summary.json", RAW / "source.json", AUDITS,
        SOURCES / sweep.FILE, ENSEMBLES,
    )  # fmt: skip
    log.info("\n%s\n", page.write(collected, shared, REPORTS))
    # DVC skips an evaluation if a new training gave the same weights. Without this, the run of that
    # training would lack the test metrics.
    finish(started, REPORTS, models.load, [EVALUATIONS / name for name in systems])


if __name__ == "__main__":
    run(work, parser(__doc__))
