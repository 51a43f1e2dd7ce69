"""Frames of the link: ``00 COBS(header, payload, CRC-32) 00``."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from cobs import cobs

PROTOCOL_VERSION = 3
_HEADER = struct.Struct("<BBII")
HEADER_BYTES = _HEADER.size
CRC_BYTES = 4
_TEXT_BYTES_MAX = 200


@dataclass(frozen=True)
class Frame:
    """One message, decoded.

    Attributes:
        type: What it is: a request, its reply, READY, NAK or ERROR (``messages.py``).
        session: The number the host chose in HELLO.
        sequence: The request's number within the session.
        payload: Its bytes.
        version: The protocol's version that the sender speaks.
    """

    type: int
    session: int
    sequence: int
    payload: bytes = b""
    version: int = PROTOCOL_VERSION


@dataclass(frozen=True)
class Noise:
    """Bytes between two delimiters that are no frame, kept for a message to the user."""

    data: bytes

    @property
    def text(self) -> str | None:
        """The last line, where the bytes are readable text: a board that prints; else None."""
        try:
            lines = self.data.decode("ascii").split("\n")
        except UnicodeDecodeError:
            return None
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return last[:_TEXT_BYTES_MAX] if len(last) >= 4 and last.isprintable() else None


def wire_bytes_max(payload_bytes: int) -> int:
    """The most bytes that a frame with this payload takes on the wire."""
    body = HEADER_BYTES + payload_bytes + CRC_BYTES
    return body + body // 254 + 1 + 2


def header_bytes(frame: Frame) -> bytes:
    """What stands before the payload."""
    return _HEADER.pack(frame.version, frame.type, frame.session, frame.sequence)


def encode_frame(frame: Frame) -> bytes:
    """Encode a frame for the wire, with a delimiter before and after it."""
    body = header_bytes(frame) + frame.payload
    encoded: bytes = cobs.encode(body + zlib.crc32(body).to_bytes(CRC_BYTES, "little"))
    return b"\x00" + encoded + b"\x00"


def decode_body(encoded: bytes) -> Frame | Noise:
    """Decode what stands between two delimiters."""
    try:
        body: bytes = cobs.decode(encoded)
    except cobs.DecodeError:
        return Noise(encoded)
    content, crc = body[:-CRC_BYTES], body[-CRC_BYTES:]
    if len(content) < HEADER_BYTES or zlib.crc32(content) != int.from_bytes(crc, "little"):
        return Noise(encoded)
    version, kind, session, sequence = _HEADER.unpack_from(content)
    return Frame(kind, session, sequence, content[HEADER_BYTES:], version)


class Deframer:
    """Finds frames in a stream of bytes that may begin anywhere and hold anything."""

    def __init__(self, payload_bytes_max: int = 32768) -> None:
        self._bytes_max = wire_bytes_max(payload_bytes_max)
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame | Noise]:
        """Take received bytes; yield what they complete, in order."""
        self._pending += data
        *complete, rest = self._pending.split(b"\x00")
        self._pending = rest
        for encoded in complete:
            if encoded:
                yield decode_body(bytes(encoded))
        if len(self._pending) > self._bytes_max:  # no frame is as long: a board that babbles
            yield Noise(bytes(self._pending))
            self._pending.clear()
