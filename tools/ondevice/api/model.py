"""A compiled model: what it needs, where it fits, and the way to a board."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ondevice.api.model_checkpoint import ModelCheckpoint
from ondevice.budget import Budget, BudgetError, check_budget
from ondevice.checkpoint import check_checkpoint, load_checkpoint
from ondevice.config import Config, DeviceSettings, with_overrides
from ondevice.data import Dataset
from ondevice.errors import UserError
from ondevice.preprocessing import Preprocessing, from_manifest
from ondevice.session import Prepared, open_session
from ondevice.target import board_budget, target_board

if TYPE_CHECKING:
    from ondevice.api.board import Board


class Model:
    """A training step in C, with the data that it was compiled with; see `ondevice.compile`.

    Attributes:
        config: All settings.
        prepared: Data and compiled model, as `ondevice.session` has them.
        build_dir: Where compiled models and firmware are kept.
    """

    def __init__(self, config: Config, prepared: Prepared, build_dir: Path) -> None:
        self.config, self.build_dir = config, build_dir
        self.prepared = prepared
        self._open: dict[DeviceSettings, weakref.ref[Board]] = {}

    @property
    def path(self) -> Path:
        """Directory with model.c and manifest.json."""
        return self.prepared.model.path

    @property
    def manifest(self) -> dict[str, Any]:
        """Content of manifest.json."""
        return self.prepared.model.manifest

    @property
    def data(self) -> Dataset:
        """As the model takes it: after preprocessing."""
        return self.prepared.sources.data

    @property
    def preprocessing(self) -> Preprocessing | None:
        """What samples are made with from raw ones; None: nothing."""
        table = self.manifest.get("preprocessing")
        return from_manifest(table) if table is not None else None

    @property
    def ram_bytes(self) -> int:
        """RAM of the model's buffers: arena, parameters, optimiser state and scales."""
        return int(self.manifest["memory"]["ram_bytes"])

    @property
    def flash_bytes(self) -> int:
        """Flash of its constants; code comes on top of it, with the board's firmware."""
        return int(self.manifest["memory"]["const_bytes"])

    def budget(self, board: str | None = None) -> Budget:
        """Sets its needs against a board's memory.

        Args:
            board: See `ondevice boards`; None: the one that it was compiled for.

        Raises:
            UserError: There is no such board.
        """
        named = self.config.device.board if board is None else board
        device = replace(self.config.device, board=named, port=None, flash_file=None)
        return board_budget(target_board(device, connect=False), self.manifest)

    def fits(self, board: str | None = None) -> bool:
        """Whether RAM and constants fit; the linker, which knows the code, has the last word."""
        try:
            check_budget(self.budget(board), self.manifest, board or "")
        except BudgetError:
            return False
        return True

    def preprocess(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Makes samples of raw ones: normalises channels and orders axes as in training.

        Args:
            raw: [n, window, channels], or pictures [n, height, width, colours].

        Returns:
            float32 [n, ...sample shape].
        """
        values = np.asarray(raw, np.float32)
        return values if self.preprocessing is None else self.preprocessing.apply(values)

    def save(self, directory: str | Path) -> Path:
        """Writes model.c and manifest.json, for `ondevice.load` or `ondevice build --model`.

        Args:
            directory: A new one, or an older model's, which is replaced as a whole.

        Raises:
            UserError: Something else is there.
        """
        path = Path(directory)
        if path.exists() and not (path / "manifest.json").is_file():
            raise UserError(f"{path}: exists and is no compiled model; choose another directory")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            shutil.copytree(self.path, temporary / "new")
            if path.exists():
                os.replace(path, temporary / "old")
            os.replace(temporary / "new", path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return path

    def connect(
        self,
        board: str | None = None,
        port: str | None = None,
        *,
        flash: bool = False,
        key: str | Path | None = None,
        allow_export: bool | None = None,
        flash_file: str | Path | None = None,
        sensor_file: str | Path | None = None,
        reconnect_s: float | None = None,
        keep: bool = False,
    ) -> Board:
        """Builds and starts the simulated board, or opens the port of a real one.

        The board then holds the parameters as they were compiled, unless `keep`; its flash is left
        alone in any case. An earlier connection of this model to the same place is closed, so that
        the cell of a notebook can be run again.

        Args:
            board: See `ondevice boards`; None: the one that it was compiled for.
            port: Of a real board; None: that of the only board of its kind.
            flash: Flash the real board first.
            key: Key file; the firmware serves only who has it.
            allow_export: Whether samples, gradients and optimiser state may leave the board.
            flash_file: Where a simulated board keeps its checkpoints.
            sensor_file: Recording that a simulated board's own sensor plays.
            reconnect_s: How long a lost link is opened again in `Board.fit`.
            keep: Leave to the board what it has learnt: in RAM, or started with from its flash.

        Returns:
            A context manager that closes the board.

        Raises:
            UserError: It cannot be built, flashed or opened, runs another model, or is too small.
        """
        from ondevice.api.board import Board

        asked = {
            "board": board,
            "port": port,
            "flash": flash,
            "key_file": Path(key) if key is not None else None,
            "allow_export": allow_export,
            "flash_file": Path(flash_file) if flash_file is not None else None,
            "sensor_file": Path(sensor_file) if sensor_file is not None else None,
            "reconnect_s": reconnect_s,
        }
        config = with_overrides(self.config, {"device": asked}, "Model.connect")
        target = target_board(config.device)
        name = target.name if target is not None else "the board"
        check_budget(board_budget(target, self.manifest), self.manifest, name)
        prepared = replace(self.prepared, board=target)
        before = self._open.pop(config.device, lambda: None)()
        if before is not None:
            before.close()
        model = Model(config, prepared, self.build_dir)
        opened = Board(model, open_session(config, prepared, self.build_dir), keep)
        self._open[config.device] = weakref.ref(opened)
        return opened

    def checkpoint(self, path: str | Path) -> ModelCheckpoint:
        """Reads a checkpoint file: of `ModelCheckpoint.save`, or of a run folder.

        Raises:
            CheckpointError: It is damaged, or of another model.
        """
        file = Path(path)
        content = load_checkpoint(file)
        check_checkpoint(file, content, self.manifest)
        return ModelCheckpoint(content, self)

    def __repr__(self) -> str:
        manifest = self.manifest
        return (
            f"<Model {manifest['name']}: {manifest['dtype']}, update {manifest['scheme']['name']}, "
            f"{self.ram_bytes:,} B of RAM>"
        )

    def _repr_html_(self) -> str:
        from ondevice.api.html import model_html

        return model_html(self)
