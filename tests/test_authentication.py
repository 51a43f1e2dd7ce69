"""Sessions with a key: what is recorded, changed, reflected or forged executes nothing."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spoilt_line import FaultyTransport

from ondevice.errors import DeviceError, HandshakeError, LinkError
from ondevice.link.authentication import session_key, with_tag, without_tag
from ondevice.link.device import Device
from ondevice.link.framing import Deframer, Frame, Noise, encode_frame
from ondevice.link.messages import (
    ERROR,
    NAK,
    READY,
    REPLY,
    NakReason,
    Region,
    Request,
    decode_counters,
    encode_write,
)
from ondevice.link.timing import Timing
from ondevice.link.transport import ProcessTransport, Transport
from test_protocol_faults import IMPATIENT, FakeModel, run_steps

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "protocol_vectors.json").read_text(encoding="utf-8")
)["authentication"]
KEY, HOST_NONCE = bytes.fromhex(VECTORS["key"]), bytes.fromhex(VECTORS["host_nonce"])
OTHER_KEY = bytes(reversed(KEY))
SESSION: int = VECTORS["session"]
TRAIN_PAYLOAD = bytes.fromhex("0000003f")

in_c = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Wire:
    """A device in a process, spoken to frame by frame, as an attacker on the wire can."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, question: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer.endswith("\n"), "the C program ended: see the sanitizer's report"
        return answer.strip()

    def start(self, boots: int = 1) -> None:
        """A start of the keyed device."""
        assert self.ask(f"keyed {boots:02x}") == "ok"

    def send(self, frame: Frame | bytes) -> list[Frame]:
        """What the device says to a frame, or to raw bytes."""
        wire = frame if isinstance(frame, bytes) else encode_frame(frame)
        items = list(Deframer().feed(bytes.fromhex(self.ask(f"receive {wire.hex()}").strip("-"))))
        assert not any(isinstance(item, Noise) for item in items)
        return [item for item in items if isinstance(item, Frame)]

    def greet(self, session: int, nonce: bytes = HOST_NONCE, key: bytes = KEY) -> bytes:
        """HELLO; returns the session's key, of the device's nonce."""
        (reply,) = self.send(Frame(Request.HELLO, session, 0, nonce))
        assert (reply.type, reply.session, reply.sequence) == (Request.HELLO | REPLY, session, 0)
        return session_key(key, session, nonce, reply.payload[-32:-16])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait() == 0


@pytest.fixture
def wire(compile_c: Callable[[str], Path]) -> Iterator[Wire]:
    device = Wire(compile_c("vectors"))
    device.start()
    yield device
    device.close()


def request(
    kind: Request, sequence: int, key: bytes, payload: bytes = b"", session: int = SESSION
) -> Frame:
    return with_tag(Frame(kind, session, sequence, payload), key)


def trained(wire: Wire, sequence: int, key: bytes, session: int = SESSION) -> int:
    """How many steps the device has executed, asked in its session."""
    (reply,) = wire.send(request(Request.READ_COUNTERS, sequence, key, session=session))
    opened = without_tag(reply, key)
    assert opened is not None
    return decode_counters(opened.payload).trained


def naks(frames: list[Frame]) -> list[int]:
    assert all(frame.type == NAK for frame in frames)
    return [frame.payload[0] for frame in frames]


def test_nonces_keys_and_tags_are_those_of_the_vectors_and_of_hashlib() -> None:
    start = bytes.fromhex(VECTORS["unique_id"]) + VECTORS["boots"].to_bytes(4, "little")
    start += bytes(4) + bytes.fromhex(VECTORS["entropy"])  # its first greeting
    nonce = hashlib.blake2s(b"ondevice nonce 1" + start, key=KEY, digest_size=16).digest()
    assert nonce.hex() == VECTORS["device_nonce"]
    content = b"ondevice session" + SESSION.to_bytes(4, "little") + HOST_NONCE + nonce
    made = hashlib.blake2s(content, key=KEY).digest()
    assert made.hex() == VECTORS["session_key"]
    assert session_key(KEY, SESSION, HOST_NONCE, nonce) == made


def test_the_device_answers_as_the_vectors_say(wire: Wire) -> None:
    wire.start(VECTORS["boots"])
    for step in VECTORS["steps"]:
        found = wire.send(bytes.fromhex(step["host"]))
        expected = list(Deframer().feed(bytes.fromhex(step["device"])))
        if found[0].type == Request.HELLO | REPLY:  # it holds the session's size, as compiled here
            made = session_key(KEY, found[0].session, HOST_NONCE, found[0].payload[-32:-16])
            assert without_tag(found[0], made) is not None
            assert isinstance(expected[0], Frame)
            assert found[0].payload[:72] == expected[0].payload[:72]
            assert found[0].payload[76:-16] == expected[0].payload[76:-16]
        else:
            assert found == expected, step["what"]


def test_a_host_and_a_device_with_the_same_key_train(fake_device: Path) -> None:
    transport = ProcessTransport([str(fake_device), "keyed", "1"])
    with Device(transport, timing=IMPATIENT, key=KEY) as device:
        assert device.info.authenticated
        assert device.info.payload_bytes_max == 1024 - 16
        run_steps(device, FakeModel(), range(130))


def test_a_line_that_spoils_frames_spoils_no_step_of_a_keyed_session(fake_device: Path) -> None:
    inner = ProcessTransport([str(fake_device), "keyed", "1"])
    faulty = FaultyTransport(inner, rate=0.3, seed=3)
    with Device(faulty, timing=IMPATIENT, key=KEY) as device:
        run_steps(device, FakeModel(), range(150))
        assert device.counters().trained == 150
    assert faulty.faults.total() > 100


def test_another_key_no_key_and_a_device_without_are_one_line_each(fake_device: Path) -> None:
    keyed, plain = [str(fake_device), "keyed", "1"], [str(fake_device)]
    with pytest.raises(HandshakeError, match="does not have this key"):
        Device(ProcessTransport(keyed), key=OTHER_KEY)
    with pytest.raises(HandshakeError, match=r"only serves who has its key: .*--key FILE"):
        Device(ProcessTransport(keyed))
    with pytest.raises(HandshakeError, match=r"the firmware .* has none: build"):
        Device(ProcessTransport(plain), key=KEY)


def test_a_device_with_a_key_but_nothing_fresh_serves_nobody(fake_device: Path) -> None:
    with pytest.raises(HandshakeError, match="cannot keep its sessions apart"):
        Device(ProcessTransport([str(fake_device), "keyed", "0"]), key=KEY)


def test_without_the_key_nothing_is_executed(wire: Wire) -> None:
    wire.greet(SESSION)
    plain = Frame(Request.TRAIN, SESSION, 1, TRAIN_PAYLOAD)
    guessed = with_tag(plain, OTHER_KEY)
    zero_tag = replace(plain, payload=plain.payload + bytes(16))
    for frame in (plain, guessed, zero_tag, replace(plain, payload=b"")):
        assert naks(wire.send(frame)) == [NakReason.AUTHENTICATION]
    key = wire.greet(SESSION + 1)
    assert trained(wire, 1, key, SESSION + 1) == 0


def test_a_session_recorded_byte_for_byte_is_refused_in_any_later_one(wire: Wire) -> None:
    recorded = [encode_frame(Frame(Request.HELLO, SESSION, 0, HOST_NONCE))]
    key = wire.greet(SESSION)
    for sequence in (1, 2):
        recorded.append(encode_frame(request(Request.TRAIN, sequence, key, TRAIN_PAYLOAD)))
        assert wire.send(recorded[-1])[0].type == Request.TRAIN | REPLY
    recorded.append(encode_frame(request(Request.BYE, 3, key)))
    assert wire.send(recorded[-1])[0].type == Request.BYE | REPLY

    def replay() -> list[int]:
        answers = [frame for sent in recorded for frame in wire.send(sent)]
        assert answers[0].type == Request.HELLO | REPLY
        return naks(answers[1:])

    refused = [NakReason.AUTHENTICATION] * 3
    assert replay() == refused  # of the device that goes on running
    assert trained(wire, 1, wire.greet(7), 7) == 2
    wire.start(boots=2)
    assert replay() == refused  # of the device after a restart
    assert trained(wire, 1, wire.greet(8), 8) == 0
    wire.start(boots=1)
    # What the count of starts is for: a board that forgot it would be deceived.
    assert [frame.type for sent in recorded for frame in wire.send(sent)][1] == 0x90


def test_a_frame_that_is_sent_again_is_answered_again_but_not_executed_again(wire: Wire) -> None:
    key = wire.greet(SESSION)
    first, second = (request(Request.TRAIN, n, key, TRAIN_PAYLOAD) for n in (1, 2))
    reply = wire.send(first)
    assert [wire.send(first) for _ in range(5)] == [reply] * 5
    assert wire.send(second) != reply
    assert wire.send(first) == []  # the host has moved on
    assert trained(wire, 3, key) == 2


@in_c
@given(data=st.data())
def test_a_frame_with_any_bits_changed_and_a_right_crc_is_never_executed(
    wire: Wire, data: st.DataObject
) -> None:
    wire.start()
    key = wire.greet(SESSION)
    frame = request(Request.TRAIN, 1, key, TRAIN_PAYLOAD)
    body = bytearray(
        bytes((frame.version, frame.type)) + frame.session.to_bytes(4, "little")
        + frame.sequence.to_bytes(4, "little") + frame.payload
    )  # fmt: skip
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    changed = Frame(
        body[1], int.from_bytes(body[2:6], "little"), int.from_bytes(body[6:10], "little"),
        bytes(body[10:]), body[0],
    )  # fmt: skip
    if changed.type != Request.HELLO:
        assert all(answer.type == NAK for answer in wire.send(changed))
        assert trained(wire, 1, key) == 0


def test_every_byte_of_a_tagged_frame_counts(wire: Wire) -> None:
    key = wire.greet(SESSION)
    frame = request(Request.TRAIN, 1, key, TRAIN_PAYLOAD)
    for at in range(len(frame.payload)):
        for bit in range(8):
            payload = bytearray(frame.payload)
            payload[at] ^= 1 << bit
            answer = wire.send(replace(frame, payload=bytes(payload)))
            assert naks(answer) == [NakReason.AUTHENTICATION]
    for kind in list(Request):
        if kind not in (Request.TRAIN, Request.HELLO):
            assert naks(wire.send(replace(frame, type=kind))) == [NakReason.AUTHENTICATION]
    for sequence in (0, 2, 3, 2**32 - 1):
        assert naks(wire.send(replace(frame, sequence=sequence))) == [NakReason.AUTHENTICATION]
    assert trained(wire, 1, key) == 0


def test_the_devices_own_words_sent_back_to_it_are_not_executed(wire: Wire) -> None:
    key = wire.greet(SESSION)
    (reply,) = wire.send(request(Request.TRAIN, 1, key, TRAIN_PAYLOAD))
    assert wire.send(reply) == []
    for sequence in (1, 2):
        reflected = replace(reply, type=Request.TRAIN, sequence=sequence)
        assert naks(wire.send(reflected)) == [NakReason.AUTHENTICATION]
    # Not even where only the direction differs: a tag of the device is not one of the host.
    words = bytes((3, Request.TRAIN)) + SESSION.to_bytes(4, "little") + (2).to_bytes(4, "little")
    tag = hashlib.blake2s(b"\x01" + words + TRAIN_PAYLOAD, key=key, digest_size=16).digest()
    as_device = Frame(Request.TRAIN, SESSION, 2, TRAIN_PAYLOAD + tag)
    assert naks(wire.send(as_device)) == [NakReason.AUTHENTICATION]
    assert trained(wire, 2, key) == 1


def test_a_greeting_that_proves_nothing_ends_no_session(wire: Wire) -> None:
    key = wire.greet(SESSION)
    (reply,) = wire.send(request(Request.TRAIN, 1, key, TRAIN_PAYLOAD))
    wire.greet(99)
    wire.greet(100, bytes(16))
    assert naks(wire.send(Frame(Request.HELLO, 101, 0))) == [NakReason.AUTHENTICATION]
    assert naks(wire.send(Frame(Request.TRAIN, 100, 1, bytes(20)))) == [NakReason.AUTHENTICATION]
    assert wire.send(Frame(Request.HELLO, SESSION, 0, bytes(16))) == []
    assert wire.send(request(Request.TRAIN, 1, key, TRAIN_PAYLOAD)) == [reply]  # still kept
    assert trained(wire, 2, key) == 1


def test_a_greeted_session_is_asked_for_its_own_first_request(wire: Wire) -> None:
    """Not for the number of the open one: the host would take its own requests for executed."""
    key = wire.greet(SESSION)
    for sequence in (1, 2, 3):
        wire.send(request(Request.TRAIN, sequence, key, TRAIN_PAYLOAD))
    greeted = wire.greet(99)
    (nak,) = wire.send(Frame(Request.TRAIN, 99, 1, bytes(20)))
    assert without_tag(nak, greeted) == Frame(
        NAK, 99, 1, bytes((NakReason.AUTHENTICATION, 0, 0, 0))
    )


def test_a_greeting_that_is_proved_takes_over(wire: Wire) -> None:
    first = wire.greet(SESSION)
    assert trained(wire, 1, first) == 0
    second = wire.greet(99)
    assert trained(wire, 1, second, 99) == 0
    late = request(Request.TRAIN, 2, first, TRAIN_PAYLOAD)
    assert naks(wire.send(late)) == [NakReason.SESSION]


def test_each_greeting_and_each_start_has_its_own_nonce(wire: Wire) -> None:
    nonces = set()
    for boots in range(1, 6):
        wire.start(boots)
        for session in range(1, 6):
            (reply,) = wire.send(Frame(Request.HELLO, session, 0, HOST_NONCE))
            assert wire.send(Frame(Request.HELLO, session, 0, HOST_NONCE)) == [reply]  # was lost
            nonces.add(reply.payload[-32:-16])
    assert len(nonces) == 25


def test_a_read_leaves_room_for_its_tag(wire: Wire) -> None:
    key = wire.greet(SESSION)
    for sequence, length in enumerate((1008, 1009, 1024), 1):
        asked = b"\x03\x00\x01\x00" + bytes(4) + length.to_bytes(4, "little")
        (reply,) = wire.send(request(Request.READ, sequence, key, asked))
        assert without_tag(reply, key) is not None
        assert (reply.type == ERROR) == (length > 1008)


class Forger:
    """Passes everything on, and slips in frames of its own after each of the device's."""

    def __init__(self, inner: Transport, forge: Callable[[Frame], list[Frame]]) -> None:
        self.name, self.bytes_per_s = inner.name, inner.bytes_per_s
        self.forged = 0
        self._inner, self._forge, self._deframer = inner, forge, Deframer()

    def write(self, data: bytes) -> None:
        self._inner.write(data)

    def read(self, max_bytes: int, timeout_s: float) -> bytes:
        data = self._inner.read(max_bytes, timeout_s)
        for item in self._deframer.feed(data):
            if isinstance(item, Frame):
                for frame in self._forge(item):
                    self.forged += 1
                    data += encode_frame(frame)
        return data

    def close(self) -> None:
        self._inner.close()


def forged_naks(seen: Frame) -> list[Frame]:
    """READY, and NAKs that call every request executed."""
    reasons = (NakReason.CORRUPT, NakReason.GAP, NakReason.AUTHENTICATION)
    return [Frame(READY, 0, 0)] + [
        Frame(NAK, seen.session, seen.sequence + ahead, bytes((reason, 0, 0, 0)) + tag)
        for reason in reasons
        for ahead in (1, 5)
        for tag in (b"", bytes(16))
    ]


def forged_results(seen: Frame) -> list[Frame]:
    """Answers to requests that were not answered yet."""
    if seen.type == Request.HELLO | REPLY:
        return []
    return [
        Frame(kind | REPLY, seen.session, seen.sequence + ahead, bytes(n))
        for kind in (Request.TRAIN, Request.WRITE, Request.EVALUATE)
        for ahead in (1, 2, 3)
        for n in (0, 16, 32)
    ]


@pytest.mark.parametrize("forge", [forged_naks, forged_results])
def test_forged_frames_make_no_step_execute_twice_or_not_at_all(
    fake_device: Path, forge: Callable[[Frame], list[Frame]]
) -> None:
    forger = Forger(ProcessTransport([str(fake_device), "keyed", "1"]), forge)
    with Device(forger, timing=IMPATIENT, key=KEY) as device:
        run_steps(device, FakeModel(), range(60))
        assert device.counters().trained == 60
    assert forger.forged > 500


def test_a_refusal_is_still_told_apart_from_a_forgery(fake_device: Path) -> None:
    with Device(ProcessTransport([str(fake_device), "keyed", "1"]), key=KEY) as device:
        device._channel.post(encode_write(Region.OUTPUT, 0, 0, b"x"))
        with pytest.raises(DeviceError, match="cannot be written"):
            device.train(0.5)


def test_a_restarted_board_is_noticed_though_it_has_no_tag_to_say_so(fake_device: Path) -> None:
    def restarted(seen: Frame) -> list[Frame]:
        if seen.type != Request.TRAIN | REPLY:
            return []
        return [Frame(NAK, seen.session, 1, bytes((NakReason.SESSION, 0, 0, 0)))]

    forger = Forger(ProcessTransport([str(fake_device), "keyed", "1"]), restarted)
    device = Device(forger, timing=Timing(bye_s=0.1), key=KEY)

    def train_on() -> None:
        for _ in range(3):
            device.train(0.5)
            device.counters()

    with device, pytest.raises(LinkError, match="restarted or another program"):
        train_on()
