"""Where this repository is, and how the processes that tests start find its code and programs."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONPATH = os.pathsep.join((str(ROOT), str(ROOT / "src")))
# This Python and its programs come first: DVC starts the stages with `python`.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
