"""Where `make coverage` asks for it, the C under test is compiled to count its lines."""

from __future__ import annotations

import os
import tempfile


def coverage_flags() -> list[str]:
    """What gcc is told: nothing, or to count into a new folder under $ONDEVICE_COVERAGE."""
    place = os.environ.get("ONDEVICE_COVERAGE")
    if place is None:
        return []
    # -O0: an optimiser merges lines. A folder a build: no two builds fit together.
    return ["-O0", "--coverage", "-dumpdir", tempfile.mkdtemp(dir=place) + "/"]
