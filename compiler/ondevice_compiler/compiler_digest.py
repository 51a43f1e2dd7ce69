"""A hash of the compiler itself, so that no cache serves what an older one made."""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path


@cache
def compiler_digest() -> bytes:
    """Of the compiler's own sources and TVM's version."""
    digest = hashlib.sha256(version("apache-tvm").encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()
