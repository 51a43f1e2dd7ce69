"""Which board and firmware answer, and why the board started."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import LinkError
from ondevice.info import describe_device
from ondevice.link.device import Device
from ondevice.link.identity import START_TEXT, StartReason, decode_identity
from ondevice.link.transport import ProcessTransport


def test_a_board_says_who_it_is_and_why_it_started(fake_device: Path) -> None:
    with Device(ProcessTransport([str(fake_device)])) as device:
        identity = device.identity()
        lines = describe_device(device)
    assert identity.start_reason is StartReason.BROWN_OUT  # tests/c/fake_port.h
    assert identity.unique_id == "0102030405060708090a0b0c"
    assert identity.image_digest == "d16e57" + 29 * "00"
    text = "\n".join(lines)
    for part in ("fake_board", "brown-out", identity.unique_id, identity.image_digest[:16]):
        assert part in text


def test_an_id_and_a_digest_that_a_board_lacks_are_empty() -> None:
    identity = decode_identity(bytes(52))
    assert (identity.unique_id, identity.image_digest) == ("", "")
    assert identity.start_reason is StartReason.UNKNOWN


def test_every_reason_has_words_and_an_unknown_one_is_unknown() -> None:
    assert set(START_TEXT) == set(StartReason)
    assert decode_identity(b"\xee" + bytes(51)).start_reason is StartReason.UNKNOWN


@given(st.binary(max_size=80))
def test_any_bytes_are_an_identity_or_one_clear_line(payload: bytes) -> None:
    if len(payload) == 52 and payload[1] <= 16:
        assert decode_identity(payload).unique_id == payload[4 : 4 + payload[1]].hex()
    else:
        with pytest.raises(LinkError, match="flash firmware of this version"):
            decode_identity(payload)
