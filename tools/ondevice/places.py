"""Where boards, runtime and firmware are: in the checkout, or in the installed package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def project_root() -> Path:
    """Folder with platformio.ini, boards/, runtime/ and firmware/."""
    checkout = _PACKAGE.parent.parent
    return checkout if (checkout / "platformio.ini").is_file() else _PACKAGE / "_data"


def data_folder(name: str) -> Path:
    """One folder of the project root."""
    return project_root() / name
