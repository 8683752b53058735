"""Compare the systems and write the report: models/ and evaluations/ -> reports/."""

import logging

from cxr import params
from cxr.report import page, results
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
    collected = results.collect(list(settings.systems), MODELS, WEIGHTS, EVALUATIONS, published)
    shared = results.context(
        settings, SPLITS / "manifest.csv", SPLITS / "summary.json", RAW / "source.json"
    )
    log.info("\n%s\n", page.write(collected, shared, REPORTS))
    tracking.write(settings.tracking, tracking.comparison(REPORTS, settings, RAW))


if __name__ == "__main__":
    run(work, parser(__doc__))
