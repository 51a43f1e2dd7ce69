"""Sessions between a host and a device that share a key (docs/PROTOCOL.md).

The device's part is runtime/src/authentication.c; both use BLAKE2s (RFC 7693).
"""

import hashlib
import hmac
import secrets
from dataclasses import replace

from ondevice.link.framing import Frame, header_bytes

KEY_BYTES = 32
NONCE_BYTES = 16
TAG_BYTES = 16
_FROM_HOST, _FROM_DEVICE = b"\x00", b"\x01"


def new_nonce() -> bytes:
    """What the host adds to a session's key, so that no recorded answer fits."""
    return secrets.token_bytes(NONCE_BYTES)


def session_key(key: bytes, session: int, host_nonce: bytes, device_nonce: bytes) -> bytes:
    """The key of one session."""
    content = b"ondevice session" + session.to_bytes(4, "little") + host_nonce + device_nonce
    return hashlib.blake2s(content, key=key).digest()


def _tag(key: bytes, direction: bytes, frame: Frame) -> bytes:
    content = direction + header_bytes(frame) + frame.payload
    return hashlib.blake2s(content, key=key, digest_size=TAG_BYTES).digest()


def with_tag(frame: Frame, key: bytes) -> Frame:
    """A frame of the host, its tag at the payload's end."""
    return replace(frame, payload=frame.payload + _tag(key, _FROM_HOST, frame))


def without_tag(frame: Frame, key: bytes) -> Frame | None:
    """A frame of the device without its tag; None where the tag is wrong or missing."""
    if len(frame.payload) < TAG_BYTES:
        return None
    content = replace(frame, payload=frame.payload[:-TAG_BYTES])
    found = frame.payload[-TAG_BYTES:]
    return content if hmac.compare_digest(found, _tag(key, _FROM_DEVICE, content)) else None


def greeted_key(key: bytes, reply: Frame, host_nonce: bytes) -> bytes | None:
    """The session's key, of the reply to HELLO; None where it was not sent by who has the key."""
    if len(reply.payload) < NONCE_BYTES + TAG_BYTES:
        return None
    device_nonce = reply.payload[-NONCE_BYTES - TAG_BYTES : -TAG_BYTES]
    made = session_key(key, reply.session, host_nonce, device_nonce)
    return made if without_tag(reply, made) is not None else None
