"""Which reader a file or folder is for: one line a format."""

from collections.abc import Callable
from pathlib import Path

from ondevice.config import Config
from ondevice.data import DataError, Dataset, load_dataset
from ondevice.datasets.assemble import assemble, assemble_arrays
from ondevice.datasets.images import SUFFIXES as IMAGE_SUFFIXES
from ondevice.datasets.images import read_image_folder
from ondevice.datasets.tables import read_table_file, read_table_folder
from ondevice.datasets.wav import SUFFIXES as SOUND_SUFFIXES
from ondevice.datasets.wav import read_wav_folder
from ondevice.preprocessing import Preprocessing
from ondevice.recordings import Recordings, Samples

Reader = Callable[[Path, Config], Recordings | Samples]

ALLOWED = (
    "a .npz, .csv or .parquet file, or a folder with one folder a class that holds .npz, .csv, "
    ".parquet or sound files, or pictures"
)


FILE_READERS: dict[str, Reader] = {
    "csv": read_table_file,
    "parquet": read_table_file,
}
FOLDER_READERS: dict[str, Reader] = {
    "csv": read_table_folder,
    "parquet": read_table_folder,
    "npz": read_table_folder,
    "images": read_image_folder,
    "wav": read_wav_folder,
}
SUFFIXES = {
    "npz": (".npz",),
    "csv": (".csv", ".tsv", ".txt"),
    "parquet": (".parquet",),
    "images": IMAGE_SUFFIXES,
    "wav": SOUND_SUFFIXES,
}


def load_samples(
    path: Path, config: Config, given: Preprocessing | None = None
) -> tuple[Dataset, Preprocessing | None]:
    """Reads a file or folder and makes a model's samples of it.

    Args:
        path: `data.file`, or the file for calibration.
        config: All settings; `data.test_file` is read, too.
        given: A model's own preprocessing, which wins over the settings; None: fit one.

    Raises:
        DataError: No such file, an unknown kind, or what is in it cannot be trained on.
    """
    kind = format_of(path, config.data.format)
    if kind == "npz" and path.is_file():
        return assemble_arrays(load_dataset(path), config, given)
    readers = FOLDER_READERS if path.is_dir() else FILE_READERS
    if kind not in readers:
        raise DataError(f"{path}: a file of format {kind!r} is read from folders, one a class")
    read = readers[kind]
    test_file = config.data.test_file
    test = read(test_file, config) if test_file is not None else None
    return assemble(read(path, config), test, config, given)


def format_of(path: Path, declared: str = "auto") -> str:
    """Says what a path holds: npz, csv, parquet, images or wav.

    Raises:
        DataError: It is not there, or is none of them.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if declared != "auto":
        return declared
    if path.is_file():
        files = [path]
    else:
        files = [file for file in sorted(path.glob("*/**/*")) if file.is_file()]
    for kind, suffixes in SUFFIXES.items():
        if any(file.suffix.lower() in suffixes for file in files):
            return kind
    raise DataError(f"{path}: nothing there that can be read; allowed: {ALLOWED}")
