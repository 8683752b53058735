"""Benchmarks: each is one command that measures its candidates in one run."""

import os
import sys
from pathlib import Path

# Like the stages, a benchmark imports the library of this repository.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on instruction sets
