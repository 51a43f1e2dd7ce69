"""PlatformIO platform that needs nothing from PlatformIO's registry.

PlatformIO builds with its package `tool-scons`; the SCons of the Python environment is laid there.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from platformio.dependencies import get_core_dependencies
from platformio.package.manager.core import get_core_package_dir
from platformio.platform.base import PlatformBase

_SCONS = "from SCons.Script import main\n\nif __name__ == '__main__':\n    main()\n"


class OndevicePlatform(PlatformBase):
    """Boards of this repository."""

    def configure_default_packages(self, variables: dict[str, Any], targets: list[str]) -> Any:
        """Called by PlatformIO before it looks for packages."""
        _lay_scons(Path(self.config.get("platformio", "packages_dir")))
        return super().configure_default_packages(variables, targets)


def _lay_scons(packages: Path) -> None:
    if get_core_package_dir("tool-scons", auto_install=False):
        return
    if importlib.util.find_spec("SCons") is None:
        return  # PlatformIO then reports what it misses.
    version = get_core_dependencies()["tool-scons"].lstrip("~^>=")
    spec = {"owner": "platformio", "id": None, "name": "tool-scons"}
    files = {
        "scons.py": _SCONS,
        "package.json": json.dumps(
            {"name": "tool-scons", "version": version, "description": "SCons of this environment"}
        ),
        ".piopm": json.dumps(
            {
                "type": "tool",
                "name": "tool-scons",
                "version": version,
                "spec": {**spec, "requirements": None, "uri": None},
            }
        ),
    }
    folder = packages / "tool-scons"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        temporary = folder / f"{name}.{os.getpid()}"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, folder / name)
