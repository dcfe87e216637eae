"""Write every event as one line of JSON, for programs that watch a run."""

from __future__ import annotations

import json
from pathlib import Path

from rocmbuild.errors import UsageError
from rocmbuild.events import Event


class JsonLines:
    """Write ``Event.record()`` of each event to a file as it happens; UsageError if it cannot be opened."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise UsageError(
                f"cannot write events to {path}: {error.strerror}", hint="name a writable file with --events"
            ) from error

    def __call__(self, event: Event) -> None:
        self._file.write(json.dumps(event.record()) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
