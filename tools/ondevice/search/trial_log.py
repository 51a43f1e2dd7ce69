"""Finished training runs in a JSON-lines file: a search that was stopped goes on from them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ondevice.errors import UserError


class TrialLog:
    """One line a run, appended in one write as soon as the run is over.

    A process killed at any moment leaves whole lines and at most a torn last one, which is cut off
    when the file is opened again.

    Args:
        path: Created where it is missing; its folder must exist.

    Raises:
        UserError: Another search is writing to it.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._file)
            raise UserError(
                f"{path.parent}: another search is running there; wait for it, or choose another "
                "folder with --output"
            ) from error
        self._records = self._read()

    def __enter__(self) -> TrialLog:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._file)

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __getitem__(self, key: str) -> Mapping[str, Any]:
        return self._records[key]

    def append(self, key: str, record: Mapping[str, Any]) -> None:
        """Keeps a finished run."""
        line = json.dumps({"key": key, **record}) + "\n"
        os.write(self._file, line.encode())
        os.fsync(self._file)
        self._records[key] = record

    def _read(self) -> dict[str, Mapping[str, Any]]:
        size = os.fstat(self._file).st_size
        content = os.pread(self._file, size, 0)
        whole = content.rfind(b"\n") + 1
        if whole < size:
            os.ftruncate(self._file, whole)
        records = {}
        for line in content[:whole].splitlines():
            try:
                record = json.loads(line)
                records[str(record.pop("key"))] = record
            except (ValueError, KeyError, AttributeError):
                continue  # not ours, or damaged: it is measured again
        return records
