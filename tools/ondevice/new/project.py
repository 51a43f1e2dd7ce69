"""Makes a project: model, settings, example data, README."""

import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from string import Template

from ondevice.errors import UserError
from ondevice.new.example_data import EXAMPLE_DATA

TEMPLATES = tuple(EXAMPLE_DATA)
_COPIED = ("model.py", "model.onnx")
_FILLED = ("ondevice.toml", "README.md")
_IGNORED = "build/\nruns/\n"


def make_project(folder: Path, template: str, board: str) -> None:
    """Makes a project that trains as it stands.

    Args:
        folder: New, or empty.
        template: One of `TEMPLATES`.
        board: Goes into its settings.

    Raises:
        UserError: The folder holds something, or cannot be written; nothing is left there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is there already and not empty; choose another name")
    source = files("ondevice.new") / "templates" / template
    values = {"name": folder.resolve().name, "board": board}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as temporary:
            made = Path(temporary) / "project"
            made.mkdir()
            for name in _COPIED:
                (made / name).write_bytes((source / name).read_bytes())
            for name in _FILLED:
                text = (source / name).read_text(encoding="utf-8")
                (made / name).write_text(Template(text).substitute(values), encoding="utf-8")
            (made / ".gitignore").write_text(_IGNORED, encoding="utf-8")
            EXAMPLE_DATA[template](made)
            if folder.exists():
                folder.rmdir()
            shutil.move(made, folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}") from error
