"""A benchmark is one command that measures its candidates in one run, on the same data and cores.

``make bench`` runs all but the soak and renders this page. If you have X-rays and weights, give
them: ``make bench BENCH_ARCHIVE=path/kermany-224.zip BENCH_WEIGHTS=path/weights``. Otherwise images
are synthetic and weights random.

Candidates take turns, A B A B; a time is the median of its calls, and a comparison the median over
the pairs. ``features`` and ``growth`` take too long for that and run everything once. Other
processes and other processors change figures, so compare those of one run only.
"""

import sys
from pathlib import Path

# Like the stages, a benchmark imports the library of this repository.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from cxr import quiet

quiet.tensorflow()
