"""Where boards, runtime and firmware are: in the installed package, or in the checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def project_root() -> Path:
    """Folder with boards/, runtime/ and firmware/."""
    checkout = _PACKAGE.parent.parent
    installed = _PACKAGE / "_data"
    return installed if installed.is_dir() else checkout


def data_folder(name: str) -> Path:
    """One folder of the project root."""
    return project_root() / name
