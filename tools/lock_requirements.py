"""Writes the lock files from what is installed: every requirement, transitively, at its version.

    make lock

Only packages that pyproject.toml's dependencies and extras need are locked. A package's build for
another accelerator (torch's CUDA parts) is not installed, hence not locked.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
BUILD = ("hatchling", "editables")  # install the project itself without fetching anything
INSTALLERS = ("pip", "setuptools")  # part of every venv
RUN = ("compiler", "demo", "tune", "audio")
LOCKS = {
    "requirements.lock": RUN,
    "requirements-test.lock": (
        *RUN,
        "torch",
        "parquet",
        "camera",
        "tensorboard",
        "mlflow",
        "federate",
        "privacy",
        "docs",
        "test",
    ),
}


def closure(roots: Iterable[str]) -> dict[str, str]:
    """Versions of the roots and all that they need here, by canonical name."""
    found: dict[str, str] = {}
    waiting = [Requirement(root) for root in roots]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        extras = requirement.extras or {""}
        if name not in found or extras != {""}:
            found[name] = installed.version.partition("+")[0]
            for text in installed.requires or ():
                needed = Requirement(text)
                marker = needed.marker
                wanted = marker is None or any(marker.evaluate({"extra": e}) for e in extras)
                if wanted and canonicalize_name(needed.name) not in found:
                    waiting.append(needed)
    return {name: found[name] for name in sorted(found) if name not in INSTALLERS}


def main() -> None:
    """Writes every lock file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for file, extras in LOCKS.items():
        roots = [*project["dependencies"], *BUILD]
        for extra in extras:
            roots += project["optional-dependencies"][extra]
        lines = [f"{name}=={version}" for name, version in closure(roots).items()]
        text = "# Made by `make lock`; do not edit.\n" + "\n".join(lines) + "\n"
        (ROOT / file).write_text(text, encoding="utf-8")
        print(f"{file}: {len(lines)} packages")


if __name__ == "__main__":
    main()
