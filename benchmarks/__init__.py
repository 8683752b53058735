"""Measurements, side by side in one run; each is one command."""

import os
import sys
from pathlib import Path

# Like the stages, a benchmark measures the library that lies beside it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's notes on instruction sets
