"""Rows of numbers from standard input: any program that prints them is a sensor."""

import os
import select
import sys

from ondevice.errors import UserError
from ondevice.live.source import EndOfSourceError
from ondevice.live.text_source import FIRST_ROW_S, TextSource


class _FileDescriptor:
    """A pipe, as a stream of bytes that does not block for longer than it is told."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor = descriptor

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        ready, _, _ = select.select([self._descriptor], [], [], timeout_s)
        if not ready:
            return b""
        data = os.read(self._descriptor, max_bytes)
        if not data:
            raise EndOfSourceError
        return data

    def close(self) -> None:
        """Standard input is the shell's."""


def open_stdin(first_row_s: float = FIRST_ROW_S) -> TextSource:
    """Reads standard input.

    Raises:
        UserError: It is a terminal, or no row of numbers came.
    """
    if sys.stdin.isatty():
        raise UserError(
            "stdin: is this terminal; give it something to read: PROGRAM | ondevice ... or < FILE"
        )
    return TextSource(_FileDescriptor(sys.stdin.fileno(), "stdin"), first_row_s=first_row_s)
