"""Events of a run from its metrics.jsonl, while it grows."""

import json
from collections.abc import Iterator
from pathlib import Path

from ondevice.errors import UserError
from ondevice.events import Event, event_of_record


class RecordedEvents:
    """Reads the events that are new; a line that is not whole yet waits for its end.

    Args:
        metrics: metrics.jsonl of a run folder; may grow meanwhile.
    """

    def __init__(self, metrics: Path) -> None:
        self._metrics = metrics
        self._read_bytes = 0

    def new(self) -> Iterator[Event]:
        """Yields the events since the last call.

        Raises:
            UserError: The file is gone or damaged.
        """
        try:
            with self._metrics.open("rb") as file:
                file.seek(self._read_bytes)
                content = file.read()
        except OSError as error:
            raise UserError(f"{self._metrics}: cannot be read: {error.strerror}") from error
        whole = content[: content.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        try:
            for line in whole.splitlines():
                yield event_of_record(json.loads(line))
        except ValueError as error:
            raise UserError(f"{self._metrics}: damaged: {error}") from error
