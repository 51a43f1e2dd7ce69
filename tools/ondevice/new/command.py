"""The verb `ondevice new`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ondevice.boards import load_board
from ondevice.new.project import make_project
from ondevice.target import DEFAULT_BOARD


def new(
    folder: Annotated[Path, typer.Argument(help="Of the project: new, or empty")],
    template: Annotated[
        Literal["motion", "tabular", "image", "sound"],
        typer.Option(help="A sensor's windows, rows of a table, pictures, or sound"),
    ] = "motion",
    board: Annotated[str, typer.Option(help="Goes into its settings")] = DEFAULT_BOARD,
) -> None:
    """Make a project with model, settings and example data, which trains as it stands."""
    load_board(board)  # a wrong name is refused before anything is written
    make_project(folder, template, board)
    print(f"{folder}: model.py, model.onnx, ondevice.toml, README.md and example data")
    print(f"Go on with: cd {folder} && ondevice check && ondevice train")
