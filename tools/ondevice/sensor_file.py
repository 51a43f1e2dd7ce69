"""The file that the sensor of a simulated board plays: "ODSENSOR", channels, rate, values."""

import hashlib
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ondevice.datasets.table import TABLE_READERS
from ondevice.datasets.tables import numeric_columns, rate_of
from ondevice.errors import UserError
from ondevice.input_settings import DataSettings
from ondevice.link.sensor import CHANNELS_MAX
from ondevice_compiler.atomic_file import write_bytes_atomically

_HEADER = struct.Struct("<8sIf")
_MAGIC = b"ODSENSOR"


def sensor_bytes(values: NDArray[np.float32], rate_hz: float | None) -> bytes:
    """Returns the file's content.

    Args:
        values: [time, channels].
        rate_hz: None: unknown.

    Raises:
        UserError: More channels than a sensor has.
    """
    channels = values.shape[1]
    if channels > CHANNELS_MAX:
        raise UserError(f"a sensor of {channels} channels; allowed: 1 to {CHANNELS_MAX}")
    return _HEADER.pack(_MAGIC, channels, rate_hz or 0.0) + values.astype("<f4").tobytes()


def prepare_sensor_file(path: Path, settings: DataSettings, build_root: Path) -> Path:
    """Makes the file of a recording, kept by its content.

    Args:
        path: A table of channels (.csv, .parquet, .npz), or such a file already.
        settings: Which columns are channels.
        build_root: Where it is kept.

    Returns:
        Its absolute path.

    Raises:
        UserError: It cannot be read.
    """
    try:
        if path.read_bytes()[: len(_MAGIC)] == _MAGIC:
            return path.resolve()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if path.suffix.lower() not in TABLE_READERS:
        allowed = ", ".join(TABLE_READERS)
        raise UserError(f"{path}: a recording for the board's sensor is one of {allowed}")
    table = TABLE_READERS[path.suffix.lower()](path)
    names = numeric_columns(table, settings)
    values = np.stack([table.numbers(name) for name in names], axis=1).astype(np.float32)
    content = sensor_bytes(values, rate_of(table, settings.time_column))
    name = f"{path.stem}-{hashlib.sha256(content).hexdigest()[:12]}.bin"
    made = (build_root / "sensor" / name).resolve()
    made.parent.mkdir(parents=True, exist_ok=True)
    write_bytes_atomically(made, content)
    return made
