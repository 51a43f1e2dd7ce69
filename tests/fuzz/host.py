"""Fuzzes the host's side of the link: a board that sends anything (atheris).

The first byte says what is fuzzed: a decoder, the deframer, or a channel, with or without a key,
whose board answers by a script of frames. Only the errors that a user is shown may come out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import atheris

with atheris.instrument_imports(include=["ondevice.link", "ondevice.fault", "ondevice.federate"]):
    from ondevice import fault
    from ondevice.errors import DeviceError, LinkError, UserError
    from ondevice.federate import delta, weights
    from ondevice.link import authentication, channel, flash_checkpoint, framing, messages

MANIFEST = {
    "parameters": [
        {
            "index": i,
            "name": str(i),
            "kind": "parameter",
            "shape": shape,
            "dtype": dtype,
            "scale": s,
        }
        for i, (shape, dtype, s) in enumerate(
            (([3, 2], "int16", [0.5] * 3), ([3], "int32", [0.25] * 3), ([7], "float32", None))
        )
    ]
}


def decode_update(message: bytes) -> None:
    """An update that a board sends has the model's shapes, or is refused."""
    try:
        found = delta.decode_delta(MANIFEST, message)
    except UserError:
        return
    assert [a.shape for a in found] == [f.shape for f in weights.weight_formats(MANIFEST)]


SESSION = 0x01020304
NONCE = bytes(16)
KEY = bytes(32)
DECODERS: tuple[Callable[[bytes], object], ...] = (
    lambda payload: messages.decode_info(payload, 3),
    messages.decode_result,
    messages.decode_counters,
    messages.decode_memory,
    messages.decode_tensor,
    messages.decode_error,
    flash_checkpoint.decode_checkpoint,
    decode_update,
    lambda payload: fault.describe_fault(found) if (found := fault.decode_fault(payload)) else "",
)
INFO = messages._INFO.pack(4, bytes(16), 1, 1, 1024, *[2048] * 13) + b"\x01m\x01b"


class Script:
    """A board that sends what the input says, and then unplugs itself."""

    name = "script"
    bytes_per_s: float | None = None

    def __init__(self, data: bytes, key: bytes | None) -> None:
        self._data = data
        self._key = key

    def _take(self, count: int) -> bytes:
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def write(self, data: bytes) -> None:
        """Nobody listens."""

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        """Some raw bytes, or a frame of the session with a right CRC, and tag if asked for."""
        if not self._data:
            raise LinkError("the end of the script")
        operation, size, sequence = self._take(1)[0], *(self._take(2) + b"\x00\x00")[:2]
        content = self._take(size)
        if operation % 4 == 0:
            return content
        kinds = (0x81, 0x83, 0x90, 0xC0, 0xC1, 0xC2, 0xC3, 0x82, operation)
        frame = framing.Frame(kinds[operation // 4 % 9], SESSION, sequence, content)
        if operation % 4 == 3:
            frame = replace(frame, payload=INFO)
        if self._key is not None:
            frame = _as_device(frame, self._key)
        return framing.encode_frame(frame)

    def close(self) -> None:
        """Nothing to release."""


def _as_device(frame: framing.Frame, key: bytes) -> framing.Frame:
    made = authentication.session_key(key, SESSION, NONCE, NONCE)
    if frame.type == 0x81:
        frame = replace(frame, payload=frame.payload + NONCE)
    tag = authentication._tag(made, b"\x01", frame)
    return replace(frame, payload=frame.payload + tag)


def talk(data: bytes, key: bytes | None) -> None:
    """A channel that goes on asking until the script ends."""
    link = channel.Channel(Script(data, key), key=key)
    link._session, link._nonce = SESSION, NONCE if key is not None else b""
    connected = False
    while link._transport._data:  # type: ignore[attr-defined]
        try:
            if not connected:
                link.connect()
                connected = True
            link.post(messages.encode_write(messages.Region.INPUT, 0, 0, b"x"))
            link.request(messages.Request.TRAIN, b"\x00\x00\x00\x00")
            link.request(messages.Request.READ, bytes(12))
        except DeviceError:
            continue
        except LinkError:
            return


def one_input(data: bytes) -> None:
    """One input of the fuzzer."""
    if not data:
        return
    kind, rest = data[0] % (len(DECODERS) + 3), data[1:]
    try:
        if kind < len(DECODERS):
            DECODERS[kind](rest)
        elif kind == len(DECODERS):
            deframer = framing.Deframer(64)
            whole = list(framing.Deframer(64).feed(rest))
            pieces = [item for byte in rest for item in deframer.feed(bytes([byte]))]
            frames = [item for item in whole if isinstance(item, framing.Frame)]
            assert [item for item in pieces if isinstance(item, framing.Frame)] == frames
        else:
            talk(rest, KEY if kind == len(DECODERS) + 1 else None)
    except (LinkError, DeviceError):
        pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
