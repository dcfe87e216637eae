"""Measure how long ``rocmbuild --help`` takes, against ``python -c "import rich"``; the aim is a ratio below 1.5.

usage: .venv/bin/python benchmarks/startup.py [RUNS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

COMMANDS = {
    "python -c pass": (sys.executable, "-c", "pass"),
    "import rich": (sys.executable, "-c", "import rich"),
    "rocmbuild --help": (str(Path(sys.executable).with_name("rocmbuild")), "--help"),
    "rocmbuild list branches": (str(Path(sys.executable).with_name("rocmbuild")), "list", "branches"),
}


def measure(argv: Sequence[str]) -> float:
    """Return the seconds that one run takes."""
    start = time.perf_counter()
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main(runs: int) -> None:
    """Print the median of each command; runs alternate, so that a busy moment meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, argv in COMMANDS.items():
            times[name].append(measure(argv))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:<24} {seconds * 1000:6.1f} ms  {seconds / medians['import rich']:.2f} x import rich")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
