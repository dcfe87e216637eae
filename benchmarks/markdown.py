"""Print the figures that run.py has gathered as Markdown, for docs/performance.md.

usage: markdown.py RESULTS.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import shown


def lines(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line on the machine, then a table of all figures."""
    machine = results["machine"]
    memory = shown(machine["memory"], "bytes")
    yield f"{machine['cpus']} CPUs ({machine['cpu']}), {memory}, Linux {machine['kernel']}, {machine['date']}."
    yield ""
    yield "| program | load | figure | median | runs |"
    yield "|---|---|---|---|---|"
    for result in results["results"]:
        head = f"`{result['benchmark']}.py` | {result['machine']['load'][0]} to {result['machine']['load_after'][0]}"
        for figure in result["figures"]:
            yield f"| {head} | {figure['name']} | {shown(figure['value'], figure['unit'])} | {spread(figure)} |"
            head = " | "


def spread(figure: Mapping[str, Any]) -> str:
    """Return the least and the most of several runs."""
    if len(figure["runs"]) < 2:
        return "1"
    low, high = (shown(limit(figure["runs"]), figure["unit"]) for limit in (min, max))
    return f"{len(figure['runs'])}: {low} to {high}"


def main(arguments: Sequence[str]) -> int:
    """Print the table of a file."""
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print((__doc__ or "").strip())
        return 0 if arguments else 2
    print("\n".join(lines(json.loads(Path(arguments[0]).read_text(encoding="utf-8")))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
