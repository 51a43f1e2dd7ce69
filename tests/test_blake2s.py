"""BLAKE2s of the runtime: the vectors of RFC 7693, and Python's hashlib on anything."""

import hashlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

Blake = Callable[..., str]


@pytest.fixture(scope="module")
def blake2s(compile_c: Callable[[str], Path]) -> Iterator[Blake]:
    """Digest of pieces, by the C code in a process with sanitizers."""
    program = subprocess.Popen(
        [compile_c("vectors")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stdin is not None
    assert program.stdout is not None
    source, sink = program.stdout, program.stdin

    def ask(digest_bytes: int, key: bytes, *pieces: bytes) -> str:
        words = [key.hex() or "-", *(piece.hex() or "-" for piece in pieces)]
        sink.write(f"blake2s {digest_bytes} {' '.join(words)}\n")
        sink.flush()
        return source.readline().strip()

    yield ask
    sink.close()
    assert program.wait() == 0


def test_the_digest_of_abc_is_that_of_rfc_7693_appendix_b(blake2s: Blake) -> None:
    wanted = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    assert blake2s(32, b"", b"abc") == wanted


def test_the_self_test_of_rfc_7693_appendix_e_passes(blake2s: Blake) -> None:
    """A digest over the keyed and unkeyed digests of six inputs in four lengths."""

    def sequence(n: int, seed: int) -> bytes:
        a, b, out = 0xDEAD4BAD * seed & 0xFFFFFFFF, 1, bytearray()
        for _ in range(n):
            a, b = b, a + b & 0xFFFFFFFF
            out.append(b >> 24)
        return bytes(out)

    digests = []
    for digest_bytes in (16, 20, 28, 32):
        for n in (0, 3, 64, 65, 255, 1024):
            data = sequence(n, n)
            digests.append(bytes.fromhex(blake2s(digest_bytes, b"", data)))
            key = sequence(digest_bytes, digest_bytes)
            digests.append(bytes.fromhex(blake2s(digest_bytes, key, data)))
    wanted = "6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe"
    assert blake2s(32, b"", *digests) == wanted


@given(
    digest_bytes=st.integers(1, 32),
    key=st.binary(max_size=32),
    pieces=st.lists(st.binary(max_size=200), max_size=5),
)
def test_any_digest_is_that_of_hashlib_however_the_input_is_cut(
    digest_bytes: int, key: bytes, pieces: list[bytes], blake2s: Blake
) -> None:
    wanted = hashlib.blake2s(b"".join(pieces), digest_size=digest_bytes, key=key).hexdigest()
    assert blake2s(digest_bytes, key, *pieces) == wanted


@pytest.mark.parametrize("n", [63, 64, 65, 127, 128, 129, 4096])
def test_digests_of_whole_and_nearly_whole_blocks_are_those_of_hashlib(
    n: int, blake2s: Blake
) -> None:
    data = bytes(i % 251 for i in range(n))
    for key in (b"", bytes(range(32))):
        assert blake2s(32, key, data) == hashlib.blake2s(data, key=key).hexdigest()
