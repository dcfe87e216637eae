"""The benchmarks are programs of one directory, which Python puts on its path when it runs one of them."""

from __future__ import annotations

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"

sys.path.append(str(BENCHMARKS))
