"""What the benchmarks share: alternating runs, figures as a table and as JSON, the command line."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from watching import BenchmarkError, Usage

from rocmbuild import __version__

T = TypeVar("T")


def alternate(variants: Mapping[str, Callable[[], T]], runs: int) -> dict[str, list[T]]:
    """Run every variant ``runs`` times, in turn, each round beginning with another one.

    So a busy moment of the machine meets all of them, and none is always the first to find the files in memory.
    """
    names = list(variants)
    results: dict[str, list[T]] = {name: [] for name in names}
    for number in range(runs):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            results[name].append(variants[name]())
    return results


@dataclass(frozen=True)
class Figure:
    """One result: ``values`` of all runs, of which the median counts."""

    name: str
    values: tuple[float, ...]
    unit: str

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    def row(self) -> dict[str, Any]:
        """Return the figure as the JSON file has it."""
        return {"name": self.name, "value": self.value, "unit": self.unit, "runs": list(self.values)}


@dataclass
class Report:
    """The figures of one benchmark, with the machine they were measured on."""

    benchmark: str
    arguments: Mapping[str, Any]
    machine: Mapping[str, Any]
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, values: float | Iterable[float], unit: str) -> float:
        """Add a figure and return its value; units: s, bytes, % and x (a ratio) are printed in their own way."""
        found = tuple(values) if isinstance(values, Iterable) else (values,)
        figure = Figure(name, found, unit)
        self.figures.append(figure)
        return figure.value

    def add_usage(self, name: str, usages: Sequence[Usage], *, watched: bool = True) -> None:
        """Add what programs took."""
        self.add(f"{name}: time", [usage.seconds for usage in usages], "s")
        self.add(f"{name}: CPU time", [usage.cpu for usage in usages], "s")
        if watched:
            self.add(f"{name}: most compilers at once", [usage.compilers for usage in usages], "")
            self.add(f"{name}: most memory at once", [usage.memory for usage in usages], "bytes")

    def add_ratio(self, name: str, above: Sequence[float], under: Sequence[float]) -> None:
        """Add the ratios of runs that belong together, pair by pair; nothing if there is nothing to divide by."""
        pairs = [(one, other) for one, other in zip(above, under, strict=True) if other]
        if pairs:
            self.add(name, [one / other for one, other in pairs], "x")

    def record(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "benchmark": self.benchmark,
            "arguments": dict(self.arguments),
            "machine": {**self.machine, "load_after": load()},
            "figures": [figure.row() for figure in self.figures],
            "notes": self.notes,
        }


def say(text: str) -> None:
    """Tell on standard error what is measured now."""
    print(f"... {text}", file=sys.stderr, flush=True)


def shown(value: float, unit: str) -> str:
    """Return a value for people."""
    match unit:
        case "bytes":
            return f"{value / 2**20:,.0f} MiB"
        case "s" if value < 0.0995:
            return f"{value * 1000:.2f} ms"
        case "s":
            return f"{value:,.2f} s"
        case "x":
            return f"{value:.3g} x" if value < 1000 else f"{value:,.0f} x"
        case "%":
            return f"{value:.1f} %"
    return f"{value:g} {unit}".rstrip()


def table(report: Report) -> str:
    """Return the figures as lines: name, median, and of several runs the least and the most."""
    wide = max((len(figure.name) for figure in report.figures), default=0)
    lines = [f"{report.benchmark}   ({report.machine['date']}, {machine_line(report.machine)})"]
    for figure in report.figures:
        several = len(figure.values) > 1
        low, high = (shown(limit(figure.values), figure.unit) for limit in (min, max))
        spread = f"   {len(figure.values)} runs: {low} to {high}" if several else ""
        lines.append(f"  {figure.name:<{wide}}  {shown(figure.value, figure.unit):>12}{spread}")
    return "\n".join([*lines, *(f"  note: {note}" for note in report.notes)])


def machine_line(machine: Mapping[str, Any]) -> str:
    """Return the machine in a few words."""
    return f"{machine['cpus']} x {machine['cpu']}, load {machine['load'][0]}"


def machine_facts() -> dict[str, Any]:
    """Return what figures depend on; no name of the machine is in it."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rocmbuild": __version__,
        "load": load(),
    }


def load() -> list[float]:
    """Return the load averages of one, five and fifteen minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def _cpu_model() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    match = re.search(r"^(?:model name|uarch|cpu model)\s*:\s*(.+)$", text, re.MULTILINE | re.IGNORECASE)
    return match[1].strip() if match else platform.machine()


def program(
    name: str,
    doc: str,
    measure: Callable[[argparse.Namespace, Report], None],
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Be the whole ``main`` of a benchmark: read options, measure, print the table, write JSON if asked to."""
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=doc.strip(), formatter_class=_Help)
    if add_options is not None:
        add_options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(arguments)
    told = {key: _plain(value) for key, value in vars(options).items() if key != "json"}
    report = Report(name, told, machine_facts())
    try:
        measure(options, report)
    except BenchmarkError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    print(table(report))
    if options.json:
        options.json.write_text(json.dumps(report.record(), indent=1) + "\n", encoding="utf-8")
    return 0


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keep the lines of a description, and tell the defaults."""
