"""A run for machines: one JSON object a line on standard output."""

import json
from collections.abc import Mapping
from typing import Any, TextIO

from ondevice.events import Event, Started, StepTrained, event_record

STEP_LINES = 100  # at most, of a whole run; the run folder's metrics.jsonl has every step


class JsonLines:
    """Prints events, of the steps about one in a hundred and the last.

    Args:
        stream: Where to write; every line is flushed.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._total_steps = 1

    def on_event(self, event: Event) -> None:
        """Prints one event."""
        if isinstance(event, Started):
            self._total_steps = event.total_steps
        if isinstance(event, StepTrained):
            every = -(-self._total_steps // STEP_LINES)  # rounded up
            if event.step % every and event.step != self._total_steps:
                return
        record = event_record(event)
        if record is not None:
            self.write(record)

    def write(self, record: Mapping[str, Any]) -> None:
        """Prints one record."""
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()
