"""The link's bytes: the vectors of docs/PROTOCOL.md, in Python and in C."""

import json
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cobs import cobs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ondevice.link.framing import Deframer, Frame, Noise, encode_frame

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "protocol_vectors.json").read_text(encoding="utf-8")
)
Ask = Callable[..., str]

frames = st.builds(
    Frame,
    type=st.integers(0, 255),
    session=st.integers(0, 2**32 - 1),
    sequence=st.integers(0, 2**32 - 1),
    payload=st.one_of(
        st.binary(max_size=1024),
        st.integers(0, 1024).map(bytes),
        st.integers(0, 1024).map(lambda n: b"\x01" * n),
    ),
    version=st.integers(0, 255),
)
in_c = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def ask_c(compile_c: Callable[[str], Path]) -> Iterator[Ask]:
    """Asks tests/c/vectors.c one question; bytes are handed over in hexadecimal."""
    with subprocess.Popen(
        [compile_c("vectors")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:

        def ask(*words: str | int | bytes) -> str:
            assert program.stdin is not None
            assert program.stdout is not None
            shown = [w.hex() or "-" if isinstance(w, bytes) else str(w) for w in words]
            program.stdin.write(" ".join(shown) + "\n")
            program.stdin.flush()
            answer = program.stdout.readline()
            assert answer.endswith("\n"), "the C program ended: see the sanitizer's report"
            return answer.strip()

        yield ask
        assert program.stdin is not None
        program.stdin.close()
        assert program.wait() == 0


def of_hex(text: str) -> bytes:
    return b"" if text == "-" else bytes.fromhex(text)


def shown_by_c(items: list[Frame | Noise]) -> str:
    """What the C program prints for these."""
    return "".join(
        "bad;"
        if isinstance(item, Noise)
        else f"{item.version} {item.type} {item.session} {item.sequence} "
        f"{item.payload.hex() or '-'};"
        for item in items
    )


def frame_of(vector: dict[str, Any]) -> Frame:
    return Frame(
        vector["type"],
        vector["session"],
        vector["sequence"],
        bytes.fromhex(vector["payload"]),
        vector["version"],
    )


def test_crc_vectors_hold_in_python_and_c(ask_c: Ask) -> None:
    for vector in VECTORS["crc32"]:
        data = bytes.fromhex(vector["bytes"])
        assert f"{zlib.crc32(data):08x}" == vector["crc"]
        assert ask_c("crc32", data) == vector["crc"]


def test_cobs_vectors_hold_in_python_and_c(ask_c: Ask) -> None:
    for vector in VECTORS["cobs"]:
        decoded, encoded = (bytes.fromhex(vector[key]) for key in ("decoded", "encoded"))
        assert cobs.encode(decoded) == encoded
        assert cobs.decode(encoded) == decoded
        assert of_hex(ask_c("cobs", decoded)) == encoded
        assert of_hex(ask_c("uncobs", encoded)) == decoded


def test_data_that_is_cut_short_is_not_cobs_in_python_and_c(ask_c: Ask) -> None:
    for text in VECTORS["not_cobs"]:
        with pytest.raises(cobs.DecodeError):
            cobs.decode(bytes.fromhex(text))
        assert ask_c("uncobs", bytes.fromhex(text)) == "bad"


@pytest.mark.parametrize("vector", VECTORS["frames"], ids=lambda v: v["name"])
def test_frame_vectors_hold_in_python_and_c(vector: dict[str, Any], ask_c: Ask) -> None:
    frame, wire = frame_of(vector), bytes.fromhex(vector["wire"])
    assert encode_frame(frame) == wire
    assert list(Deframer().feed(wire)) == [frame]
    numbers = frame.version, frame.type, frame.session, frame.sequence
    assert of_hex(ask_c("frame", *numbers, frame.payload)) == wire
    assert ask_c("frames", wire) == shown_by_c([frame])


@pytest.mark.parametrize("vector", VECTORS["not_frames"], ids=lambda v: v["name"])
def test_what_is_no_frame_is_found_out_in_python_and_c(vector: dict[str, Any], ask_c: Ask) -> None:
    wire = bytes.fromhex(vector["wire"])
    # Python takes larger payloads than a board; only the board refuses the last one.
    items = list(Deframer().feed(wire))
    assert all(isinstance(item, Noise) for item in items) or len(wire) > 1024
    assert ask_c("frames", wire) == "bad;"


@pytest.mark.parametrize("exchange", VECTORS["exchanges"], ids=lambda v: v["name"])
def test_the_device_answers_as_the_vectors_say(exchange: dict[str, Any], ask_c: Ask) -> None:
    assert ask_c("new") == "ok"
    for step in exchange["steps"]:
        sent = bytes.fromhex(step["raw"]) if "raw" in step else encode_frame(frame_of(step["host"]))
        received = list(Deframer().feed(of_hex(ask_c("receive", sent))))
        expected = [frame_of(vector) for vector in step["device"]]
        for index, vector in enumerate(step["device"]):
            if "payload_then" in vector and isinstance(received[index], Frame):
                item = received[index]
                assert isinstance(item, Frame)
                assert item.payload.endswith(b"\x04fake\x0afake_board")
                received[index] = Frame(
                    item.type, item.session, item.sequence, item.payload[: -4 - 5 - 11]
                )
        assert received == expected, step


@in_c
@given(data=st.binary(max_size=1200))
def test_c_and_python_agree_on_crc_and_cobs_of_any_bytes(data: bytes, ask_c: Ask) -> None:
    encoded = cobs.encode(data)
    assert ask_c("crc32", data) == f"{zlib.crc32(data):08x}"
    assert of_hex(ask_c("cobs", data)) == encoded
    assert of_hex(ask_c("uncobs", encoded)) == data


@in_c
@given(data=st.binary(max_size=600).map(lambda data: data.replace(b"\x00", b"")))
def test_c_and_python_agree_whether_any_bytes_are_cobs(data: bytes, ask_c: Ask) -> None:
    try:
        expected = cobs.decode(data).hex() or "-" if data else "bad"
    except cobs.DecodeError:
        expected = "bad"
    assert ask_c("uncobs", data) == expected


@in_c
@given(frame=frames)
def test_any_frame_survives_the_way_from_python_to_c_and_back(frame: Frame, ask_c: Ask) -> None:
    wire = encode_frame(frame)
    numbers = frame.version, frame.type, frame.session, frame.sequence
    assert ask_c("frames", wire) == shown_by_c([frame])
    assert of_hex(ask_c("frame", *numbers, frame.payload)) == wire


@given(items=st.lists(frames, max_size=5), data=st.data())
def test_frames_are_found_however_the_stream_is_cut(
    items: list[Frame], data: st.DataObject
) -> None:
    stream = b"".join(encode_frame(frame) for frame in items)
    deframer = Deframer()
    found: list[Frame | Noise] = []
    while stream:
        n = data.draw(st.integers(1, len(stream)))
        found += deframer.feed(stream[:n])
        stream = stream[n:]
    assert found == items


@in_c
@given(garbage=st.binary(max_size=1500), frame=frames)
def test_a_frame_right_after_any_garbage_is_found(garbage: bytes, frame: Frame, ask_c: Ask) -> None:
    stream = garbage + encode_frame(frame)
    assert list(Deframer().feed(stream))[-1] == frame
    assert ask_c("frames", stream).endswith(shown_by_c([frame]))


@in_c
@given(frame=frames, data=st.data())
def test_a_frame_with_one_byte_changed_is_never_taken_for_it(
    frame: Frame, data: st.DataObject, ask_c: Ask
) -> None:
    wire = bytearray(encode_frame(frame))
    at = data.draw(st.integers(1, len(wire) - 2))
    wire[at] ^= data.draw(st.integers(1, 255))
    assert not any(isinstance(item, Frame) for item in Deframer().feed(bytes(wire)))
    assert all(word == "bad" for word in ask_c("frames", bytes(wire)).split(";")[:-1])


def test_a_board_that_babbles_does_not_fill_the_memory() -> None:
    deframer = Deframer(payload_bytes_max=1024)
    noise = [item for _ in range(100) for item in deframer.feed(b"x" * 1000)]
    assert sum(len(item.data) for item in noise if isinstance(item, Noise)) >= 98_000
