"""A run as event files for TensorBoard, written by its own writer: without TensorFlow or torch."""

from __future__ import annotations

from pathlib import Path
from time import time
from typing import Any

from ondevice.config import Config
from ondevice.events import Event, RolledBack, WentOn
from ondevice.trackers.scalars import Scalars
from ondevice.trackers.tracker import Status


class TensorBoard:
    """Writes DIRECTORY/RUN.

    Args:
        directory: What `tensorboard --logdir` is given.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._scalars = Scalars()
        self._writer: Any = None

    def begin(self, folder: Path, config: Config) -> None:
        """Opens the event file."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(self._directory / folder.name))

    def on_event(self, event: Event) -> None:
        """Writes the numbers of an event."""
        from tensorboard.compat.proto.event_pb2 import Event as Entry
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary

        if isinstance(event, RolledBack | WentOn):
            # TensorBoard forgets what it has of later steps.
            log = SessionLog(status=SessionLog.START)
            self._writer.add_event(Entry(wall_time=time(), step=event.step + 1, session_log=log))
        numbers = self._scalars.of(event)
        if numbers:
            values = [Summary.Value(tag=n.name, simple_value=n.value) for n in numbers]
            summary = Summary(value=values)
            self._writer.add_event(Entry(wall_time=time(), step=numbers[0].step, summary=summary))

    def finish(self, folder: Path, status: Status) -> None:
        """Closes the event file."""
        self._writer.close()
