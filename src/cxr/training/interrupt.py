"""SIGTERM and Ctrl-C during training: finish the step and save the progress first."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cxr.errors import Stopped

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; kill, batch systems, a machine that shuts down
RESUME = "Run the same command again to resume"


@contextmanager
def deferred() -> Iterator[threading.Event]:
    """Set the event at the first signal inside the block instead of raising; the second one raises.

    Outside the main thread, which alone receives signals in Python, nothing changes.

    Raises:
        Stopped: at a second signal.
    """
    asked = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise Stopped(f"stopped at once; the last checkpoint stays. {RESUME}")
        asked.set()
        log.warning("stopping after this step; a second signal (Ctrl-C) stops at once")

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
