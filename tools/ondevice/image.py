"""Firmware images: each says its model, its length, a digest of itself, and perhaps a key.

The header is `od_image_t` of runtime/include/ondevice/image.h. It is linked empty and written
here: into the ELF file and into the .bin beside it. The device checks the digest at every start.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from ondevice.errors import UserError
from ondevice_compiler.atomic_file import write_bytes_atomically

MAGIC = b"ODIMAGE1"
_HEADER = struct.Struct("<8sI4x16s32s32s16s")
_DIGEST_AT, _DIGEST_BYTES, _KEY_BYTES, _SALT_BYTES = 32, 32, 32, 16
_MODEL_ID_AT = 4  # in od_model_t


class ImageError(UserError):
    """A firmware image is damaged, or none of ours."""


@dataclass(frozen=True)
class ImageHeader:
    """What an image says of itself.

    Attributes:
        model_id: 32 hexadecimal digits, as in the manifest.
        digest: BLAKE2s over the image with zeros in the digest's place.
        has_key: Whether it only serves who has its key.
    """

    model_id: str
    digest: bytes
    has_key: bool


@dataclass(frozen=True)
class _Layout:
    """Of an ELF file: what is the image, and where the header and the model's id are in it."""

    segments: tuple[tuple[int, int], ...]  # offset in the file, bytes; in the order of addresses
    header_at: int  # in the file
    model_id_at: int

    def image(self, content: bytes) -> bytes:
        return b"".join(content[at : at + n] for at, n in self.segments)

    @property
    def header_in_image(self) -> int:
        passed = 0
        for at, n in self.segments:
            if at <= self.header_at < at + n:
                return passed + self.header_at - at
            passed += n
        raise ImageError("the header of the firmware lies outside of its image; build it again")


def seal_image(
    elf: Path, binary: Path | None, key: bytes | None = None, renew: bool = False
) -> ImageHeader:
    """Writes model id, length, digest and key into a linked firmware.

    Args:
        elf: The linked program, of the host board or of a microcontroller.
        binary: The flat image made of it; None where there is none.
        key: 32 bytes, see `ondevice.key`; None: none, also where one was there.
        renew: Give an image with a key another salt, though it has one: before it is flashed, so
            that a board whose flash was erased does not repeat its nonces.

    Raises:
        ImageError: It was not linked from this version's firmware.
    """
    content = _read(elf)
    layout = _layout(elf)
    at = layout.header_at
    model_id = content[layout.model_id_at : layout.model_id_at + 16]
    length = len(layout.image(content))
    *_, old_key, salt = _HEADER.unpack_from(content, at)
    if key is None:
        salt = bytes(_SALT_BYTES)
    elif renew or old_key != key:
        salt = secrets.token_bytes(_SALT_BYTES)
    secret_part = key or bytes(_KEY_BYTES), salt
    blank = _HEADER.pack(MAGIC, length, model_id, bytes(_DIGEST_BYTES), *secret_part)
    image = layout.image(content[:at] + blank + content[at + _HEADER.size :])
    digest = hashlib.blake2s(image).digest()
    header = _HEADER.pack(MAGIC, length, model_id, digest, *secret_part)
    sealed = content[:at] + header + content[at + _HEADER.size :]
    secret = key is not None
    _replace(elf, content, sealed, 0o700 if secret else 0o755)
    if binary is not None:
        _replace(binary, _read(binary), layout.image(sealed), 0o600 if secret else 0o644)
    return ImageHeader(model_id.hex(), digest, secret)


def read_image(path: Path) -> ImageHeader:
    """Reads and verifies the header of an ELF file or a flat .bin.

    Raises:
        ImageError: It is damaged, or no image of this version.
    """
    content = _read(path)
    if content.startswith(b"\x7fELF"):
        layout = _layout(path)
        image, at = layout.image(content), layout.header_in_image
    else:
        image, at = content, content.find(MAGIC)
    if at < 0 or at + _HEADER.size > len(image) or not image.startswith(MAGIC, at):
        raise ImageError(f"{path}: not a firmware image of this version; build it again")
    _, length, model_id, digest, key, _ = _HEADER.unpack_from(image, at)
    start = at + _DIGEST_AT
    blank = image[:start] + bytes(_DIGEST_BYTES) + image[start + _DIGEST_BYTES :]
    if length != len(image) or hashlib.blake2s(blank).digest() != digest:
        raise ImageError(f"{path}: the firmware image is damaged: its digest differs; build again")
    has_key = key not in (bytes(_KEY_BYTES), b"\xff" * _KEY_BYTES)
    return ImageHeader(model_id.hex(), digest, has_key)


def check_images(elf: Path) -> ImageHeader:
    """Verifies an ELF file and the .bin beside it before either is flashed.

    Raises:
        ImageError: One is damaged, or they are not the same image.
    """
    header, flat = read_image(elf), read_image(elf.with_suffix(".bin"))
    if header != flat:
        raise ImageError(f"{elf} and {elf.with_suffix('.bin')} are not the same image; build again")
    return header


def _layout(path: Path) -> _Layout:
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            header_at, model_at = (_offset(elf, name, path) for name in ("od_image", "od_model"))
            return _Layout(_segments(elf, path), header_at, model_at + _MODEL_ID_AT)
    except ELFError as error:
        raise ImageError(f"{path}: not an ELF file: {error}; build it again") from error


def _offset(elf: ELFFile, name: str, path: Path) -> int:
    """Where a symbol lies in the file."""
    table = elf.get_section_by_name(".symtab")
    symbols = table.get_symbol_by_name(name) if table is not None else None
    if not symbols:
        raise ImageError(f"{path}: no symbol {name}: not a firmware of this version")
    section = elf.get_section(symbols[0]["st_shndx"])
    return int(section["sh_offset"] + symbols[0]["st_value"] - section["sh_addr"])


def _segments(elf: ELFFile, path: Path) -> tuple[tuple[int, int], ...]:
    """What is programmed into flash; of a process, the whole file."""
    if elf["e_machine"] != "EM_ARM":
        return ((0, path.stat().st_size),)
    loaded = sorted(
        (segment["p_paddr"], segment["p_offset"], segment["p_filesz"])
        for segment in elf.iter_segments("PT_LOAD")
        if segment["p_filesz"] > 0
    )
    for (address, _, size), (following, _, _) in pairwise(loaded):
        if address + size != following:
            raise ImageError(
                f"{path}: {following - address - size} bytes of flash between {address + size:#x} "
                f"and {following:#x} belong to nothing; the linker script must leave no gap"
            )
    return tuple((offset, size) for _, offset, size in loaded)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}; build the firmware") from error


def _replace(path: Path, before: bytes, after: bytes, mode: int) -> None:
    if before != after or path.stat().st_mode & 0o777 != mode:
        write_bytes_atomically(path, after, mode)
