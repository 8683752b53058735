"""Set the systems side by side: models/ and evaluations/ -> reports/."""

import logging

from cxr import atomic, params, report, tracking
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
    results = report.collect(list(settings.systems), MODELS, WEIGHTS, EVALUATIONS, published)
    shared = report.context(
        settings, SPLITS / "manifest.csv", SPLITS / "summary.json", RAW / "source.json"
    )
    table = report.table(*report.write(results, shared, REPORTS))
    atomic.write_text(REPORTS / "comparison.txt", table + "\n")
    log.info("\n%s\n", table)
    tracking.write(settings.tracking, tracking.comparison(REPORTS, settings, RAW))


if __name__ == "__main__":
    run(work, parser(__doc__))
