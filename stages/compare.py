"""Set the systems side by side: models/ and evaluations/ -> reports/."""

import logging

from cxr import files, params
from cxr.report import page, results, tables
from cxr.tracking import client as tracking
from stages import (
    EVALUATIONS,
    MODELS,
    RAW,
    REPORTS,
    SOURCES,
    SPLITS,
    WEIGHTS,
    parser,
    run,
)  # fmt: skip

log = logging.getLogger(__name__)


def work(settings: params.Params) -> None:
    published = SOURCES / "published.yaml"
    # `dvc repro` evaluates all systems first; a run of single stages, such as the demo, may not.
    systems = [name for name in settings.systems if (EVALUATIONS / name / "metrics.json").is_file()]
    collected = results.collect(systems, MODELS, WEIGHTS, EVALUATIONS, published)
    shared = results.context(
        settings, SPLITS / "manifest.csv", SPLITS / "summary.json", RAW / "source.json"
    )
    table = tables.table(*page.write(collected, shared, REPORTS))
    files.write_text(REPORTS / "comparison.txt", table + "\n")
    log.info("\n%s\n", table)
    tracking.write(settings.tracking, tracking.comparison(REPORTS, settings, RAW))


if __name__ == "__main__":
    run(work, parser(__doc__))
