"""The report: is transfer worth it, what did each phase gain, can it be believed?

Two tables, one page, three pictures. :func:`collect` and :func:`context` read the files,
:func:`pairs` and :func:`phase_results` compare what they hold, :func:`verdict` and :func:`checks`
answer, :func:`write` makes the files of the report, :func:`table` is for the terminal.
"""

from cxr.report.answer import Verdict, verdict
from cxr.report.belief import Check, checks, shortcut
from cxr.report.differences import Difference, pairs, phase_results
from cxr.report.document import page, write
from cxr.report.results import Context, Result, collect, context
from cxr.report.tables import COUNTS, METRICS, comparison, phase_table, table

__all__ = [
    "COUNTS",
    "METRICS",
    "Check",
    "Context",
    "Difference",
    "Result",
    "Verdict",
    "checks",
    "collect",
    "comparison",
    "context",
    "page",
    "pairs",
    "phase_results",
    "phase_table",
    "shortcut",
    "table",
    "verdict",
    "write",
]
