"""Requests over a link that loses, changes, repeats and reorders: each is executed exactly once.

The host numbers its requests; the device executes only the one that follows the last, and keeps
that one's reply for the case that it is asked again. So the host may send any request as often as
it likes (go-back-N). WRITEs may be on the way several at a time; anything else is the last of
those on the way, because the device keeps one reply.
"""

import contextlib
import secrets
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

from ondevice.errors import BoardFault, DeviceError, HandshakeError, LinkError
from ondevice.fault import Fault, decode_fault, describe_fault
from ondevice.link.authentication import (
    NONCE_BYTES,
    TAG_BYTES,
    greeted_key,
    new_nonce,
    with_tag,
    without_tag,
)
from ondevice.link.framing import (
    PROTOCOL_VERSION,
    Deframer,
    Frame,
    Noise,
    encode_frame,
    wire_bytes_max,
)
from ondevice.link.messages import (
    ERROR,
    FAILURE_TEXT,
    FAULT,
    NAK,
    NO_NOISE_KEY,
    READY,
    REPLY,
    DeviceInfo,
    Failure,
    NakReason,
    Request,
    decode_error,
    decode_info,
)
from ondevice.link.timing import Patience, Timing
from ondevice.link.transport import Transport

_READ_BYTES = 65536


@dataclass
class LinkStatistics:
    """What the link has been through.

    Attributes:
        requests: Requests answered.
        retries: Frames sent again.
        corrupt_frames: Received pieces that were no frame, or had a wrong CRC or tag.
        naks: Frames that the board told us it could not use.
        bytes_out: Bytes sent.
        bytes_in: Bytes received.
    """

    requests: int = 0
    retries: int = 0
    corrupt_frames: int = 0
    naks: int = 0
    bytes_out: int = 0
    bytes_in: int = 0


@dataclass
class _Waiting:
    """A request on the way."""

    type: Request
    sequence: int
    wire: bytes
    sent_s: float


class Channel:
    """One session with the board; `connect` first."""

    def __init__(
        self,
        transport: Transport,
        timing: Timing | None = None,
        key: bytes | None = None,
        elf: Path | None = None,
    ) -> None:
        self.statistics = LinkStatistics()
        self.fault: Fault | None = None  # the last that the board told
        self._elf = elf  # of the board's firmware
        self._transport = transport
        self._timing = timing if timing is not None else Timing()
        self._deframer = Deframer()
        self._session = secrets.randbelow(2**32 - 1) + 1
        self._key = key
        self._nonce = new_nonce() if key is not None else b""
        self._session_key: bytes | None = None  # once the device has proved the key
        self._next_sequence = 0  # where nothing is on the way
        self._window: deque[_Waiting] = deque()
        self._room_bytes = 0  # one frame is always allowed
        self._reply_bytes = wire_bytes_max(1024)  # the longest
        self._reply: Frame | None = None  # to the last request that is no WRITE
        self._refused_write: DeviceError | None = None
        self._durations_s: dict[Request, float] = {}
        self._last_text = ""
        self._protocol = PROTOCOL_VERSION

    def connect(self) -> DeviceInfo:
        """Open the session.

        Raises:
            HandshakeError: Nothing of ours answers, or it has another version or another key.
        """
        self._send(Request.HELLO, self._nonce)
        payload = self._finish(self._timing.connect_s)
        info = decode_info(payload, self._protocol)
        self._room_bytes = info.receive_bytes
        self._reply_bytes = wire_bytes_max(info.payload_bytes_max)
        return info

    def post(self, payload: bytes) -> None:
        """Send a WRITE; its refusal is raised by the next `request`."""
        self._send(Request.WRITE, payload)

    def request(self, kind: Request, payload: bytes = b"", *, computes: bool = False) -> bytes:
        """Send a request and wait for its reply.

        Args:
            kind: Any but HELLO and WRITE.
            payload: Its bytes.
            computes: It may take the board long.

        Returns:
            The reply's payload.

        Raises:
            DeviceError: The board refused it, or a WRITE before it.
            LinkError: No answer, or the board restarted.
        """
        self._send(kind, payload)
        return self._finish(self._timing.command_s if computes else self._timing.reply_s)

    def bye(self) -> None:
        """End the session, where anybody still listens."""
        with contextlib.suppress(LinkError, DeviceError):
            self._send(Request.BYE, b"")
            self._finish(self._timing.bye_s)

    def _send(self, kind: Request, payload: bytes) -> None:
        tag_bytes = 0 if self._session_key is None else TAG_BYTES
        room = self._room_bytes - wire_bytes_max(len(payload) + tag_bytes)
        while self._window and sum(len(waiting.wire) for waiting in self._window) > room:
            self._wait_for_progress(self._timing.reply_s)
        # From the window, not from a counter beside it: Ctrl-C may strike between any two lines,
        # and the next request must neither skip a number nor use one twice.
        sequence = self._window[-1].sequence + 1 if self._window else self._next_sequence
        frame = Frame(kind, self._session, sequence, payload)
        if self._session_key is not None:
            frame = with_tag(frame, self._session_key)
        wire = encode_frame(frame)
        self._window.append(_Waiting(kind, sequence, wire, time.monotonic()))
        self._write(wire)

    def _finish(self, limit_s: float) -> bytes:
        """Wait until nothing is on the way; return the last reply's payload."""
        while self._window:
            self._wait_for_progress(limit_s)
        reply, self._reply = self._reply, None
        refused, self._refused_write = self._refused_write, None
        if refused is not None:
            raise refused
        assert reply is not None
        if reply.type == ERROR:
            raise _device_error(reply)
        return reply.payload

    def _wait_for_progress(self, limit_s: float) -> None:
        """Receive, and send again where needed, until the oldest request is answered."""
        oldest = self._window[0].sequence
        patience = Patience(self._retry_s(), limit_s)
        while self._window and self._window[0].sequence == oldest:
            now = time.monotonic()
            if now >= patience.give_up_at:
                raise self._no_answer(limit_s)
            if now >= patience.retry_at:
                self._resend()
                patience.retried()
            until = min(patience.retry_at, patience.give_up_at)
            data = self._transport.read(_READ_BYTES, max(0.0, until - time.monotonic()))
            self.statistics.bytes_in += len(data)
            for item in self._deframer.feed(data):
                if self._take(item) and self._window and patience.prompt_resends > 0:
                    patience.prompt_resends -= 1
                    self._resend()

    def _retry_s(self) -> float:
        expected_s = max(2 * self._durations_s.get(item.type, 0.0) for item in self._window)
        if self._transport.bytes_per_s is not None:
            on_the_way = sum(len(waiting.wire) for waiting in self._window) + self._reply_bytes
            expected_s += on_the_way / self._transport.bytes_per_s
        return self._timing.retry_s + expected_s

    def _take(self, item: Frame | Noise) -> bool:
        """Use what was received; True where the requests on the way should be sent again."""
        if isinstance(item, Noise):
            self.statistics.corrupt_frames += 1
            self._last_text = item.text or self._last_text
            return True
        if not item.type & REPLY:
            return False  # our own words echoed
        if item.version != PROTOCOL_VERSION:
            raise HandshakeError(
                f"the board's firmware speaks version {item.version} of the protocol and this "
                f"tool version {PROTOCOL_VERSION}; flash the board with this tool"
            )
        if item.type == READY:
            return True  # it has just started: what was sent before is lost
        if item.type == FAULT:
            return self._take_fault(item)
        if item.type == NAK:
            return self._take_nak(item)
        if item.session != self._session:
            return False
        if self._key is not None:
            authentic = self._authenticated(item, self._key)
            if authentic is None:
                self.statistics.corrupt_frames += 1
                return True  # changed on the way, or not from the device
            item = authentic
        self._take_reply(item)
        return False

    def _authenticated(self, reply: Frame, key: bytes) -> Frame | None:
        """The reply as the device wrote it; None where somebody else did."""
        if self._session_key is not None:
            return without_tag(reply, self._session_key)
        if reply.type != Request.HELLO | REPLY:
            return reply if reply.type == ERROR else None  # a refusal gives nothing away
        info = decode_info(reply.payload, self._protocol)
        if info.image_damaged:  # so may be its key
            raise damaged_image(info.board)
        if not info.authenticated:
            raise HandshakeError(
                f"a key is given, but the firmware of the board on {self._transport.name} has "
                "none: build and flash it with --key, or leave the key out"
            )
        self._session_key = greeted_key(key, reply, self._nonce)
        if self._session_key is None:
            raise HandshakeError(
                f"the board on {self._transport.name} does not have this key: give the key file "
                "that its firmware was built with, or flash it again with --key"
            )
        return replace(reply, payload=reply.payload[: -NONCE_BYTES - TAG_BYTES])

    def _take_fault(self, frame: Frame) -> bool:
        """The firmware's last words, or after a restart how the last run ended."""
        fault = decode_fault(frame.payload)
        if fault is None:
            return False
        connecting = not self._window or self._opening
        if connecting and (fault.again or self.fault is None):
            self.fault = fault
            return False  # no session of ours was lost
        self.fault = fault
        end = "and does so at every start" if connecting else "it restarted"
        raise BoardFault(
            f"the board's firmware failed: {describe_fault(fault, self._elf)}; {end}", fault
        )

    @property
    def _opening(self) -> bool:
        return bool(self._window) and self._window[0].type is Request.HELLO

    def _take_nak(self, nak: Frame) -> bool:
        reason = nak.payload[0] if nak.payload else 0
        if (
            self._key is None
            and nak.session == self._session
            and reason == NakReason.AUTHENTICATION
        ):
            raise HandshakeError(
                f"the board on {self._transport.name} only serves who has its key: "
                "give it with --key FILE (device.key_file)"
            )
        if nak.session == self._session and reason == NakReason.SESSION:
            raise LinkError(
                "the board does not know this session any more: it restarted or another program "
                "uses it"
            )
        if nak.session == self._session and reason == NakReason.AUTHENTICATION and self._opening:
            raise HandshakeError(
                f"the board on {self._transport.name} has a key but cannot keep its sessions "
                "apart (its flash does not count its starts): it serves nobody; flash it again "
                "without --key, or repair it"
            )
        if nak.session not in (self._session, 0):
            return False
        self.statistics.naks += 1
        if self._session_key is not None and without_tag(nak, self._session_key) is None:
            return True  # anybody may ask for the same again, but not say what was executed
        if nak.session == self._session:
            while self._window and self._window[0].type is Request.WRITE:
                if self._window[0].sequence >= nak.sequence:
                    break
                self._drop_oldest()
        return True

    def _take_reply(self, reply: Frame) -> None:
        answered = next(
            (
                waiting
                for waiting in self._window
                if waiting.sequence == reply.sequence and _answers(reply, waiting.type)
            ),
            None,
        )
        if answered is None:
            return  # a late copy
        if answered.type is not Request.WRITE:
            self._reply = reply
        elif reply.type == ERROR and self._refused_write is None:
            self._refused_write = _device_error(reply)
        while self._window[0] is not answered:
            self._drop_oldest()  # executed, too, for it came before; its reply got lost
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        waiting = self._window[0]
        self.statistics.requests += 1
        if waiting.type is not Request.WRITE:  # those may lie answered for any time
            self._durations_s[waiting.type] = time.monotonic() - waiting.sent_s
        self._next_sequence = waiting.sequence + 1
        self._window.popleft()

    def _resend(self) -> None:
        for waiting in self._window:
            self.statistics.retries += 1
            self._write(waiting.wire)

    def _write(self, wire: bytes) -> None:
        self.statistics.bytes_out += len(wire)
        self._transport.write(wire)

    def _no_answer(self, limit_s: float) -> LinkError:
        kind = self._window[0].type
        name = self._transport.name
        seen = self.statistics
        said = f"; it says {self._last_text!r}" if self._last_text else ""
        if self.fault is not None:
            said += f"; its firmware failed: {describe_fault(self.fault, self._elf)}"
        if kind is Request.HELLO:
            what = f"{seen.bytes_in} bytes came, no frame" if seen.bytes_in else "nothing came"
            return HandshakeError(
                f"no answer from the board on {name} within {limit_s:g} s: {what}{said}; is it "
                "flashed with `ondevice flash`, powered, and at the right baud rate?"
            )
        return LinkError(
            f"the board on {name} did not answer {kind.name} within {limit_s:g} s "
            f"({seen.retries} frames sent again, {seen.corrupt_frames} corrupt received){said}; "
            "check the cable and power, reset the board and start again"
        )


def damaged_image(board: str) -> HandshakeError:
    """The board says so itself, and executes nothing."""
    return HandshakeError(
        f"the firmware of the {board} board is damaged: its digest differs; flash it again with "
        "`ondevice flash`"
    )


def _answers(reply: Frame, kind: Request) -> bool:
    if reply.type == ERROR:
        return len(reply.payload) >= 2 and reply.payload[1] == kind
    return reply.type == kind | REPLY


def _device_error(reply: Frame) -> DeviceError:
    code, detail = decode_error(reply.payload)
    kind = reply.payload[1]
    name = Request(kind).name if kind in list(Request) else f"request {kind}"
    text = FAILURE_TEXT[Failure(code)] if code in list(Failure) else f"unknown failure {code}"
    shown = f" (status {detail})" if code == Failure.MODEL else ""
    if code == Failure.MODEL and detail == NO_NOISE_KEY:
        shown = (
            ": its updates need noise, and it has no fresh key for that since it was started or "
            "its parameters were replaced; write one (ondevice.noise_key.renew_noise_key)"
        )
    return DeviceError(f"the board refused {name}: {text}{shown}", code, detail)
