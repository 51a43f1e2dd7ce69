"""Files that appear whole or not at all."""

import os
import tempfile
from pathlib import Path


def write_bytes_atomically(path: Path, content: bytes, mode: int | None = None) -> None:
    """Writes a file so that no reader, and no crash, ever sees half of it.

    Args:
        path: Destination; replaced where it exists. Its folder must exist.
        content: All bytes of the file.
        mode: Its permissions, before it has any content; None: as any other file of the user.

    Raises:
        OSError: The folder cannot be written or the disk is full; `path` is as it was before.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp gives 0600; a result file is as readable as any other file of the user.
        os.chmod(name, 0o666 & ~_umask() if mode is None else mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """Writes UTF-8 text like `write_bytes_atomically`."""
    write_bytes_atomically(path, text.encode("utf-8"))


def _umask() -> int:
    """Returns the process's umask (POSIX can only read it by setting it)."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
