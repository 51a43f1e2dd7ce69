"""What an ELF file takes on the chip."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from ondevice.errors import UserError

# The C library's allocators and what is below them, and C++'s new and delete.
HEAP_SYMBOLS = (
    *("malloc", "free", "calloc", "realloc", "memalign", "aligned_alloc", "posix_memalign"),
    *("valloc", "pvalloc", "strdup", "strndup", "reallocarray", "_malloc_r", "_free_r"),
    *("_calloc_r", "_realloc_r", "_memalign_r", "_strdup_r", "sbrk", "_sbrk", "_sbrk_r"),
    *(
        "__malloc_lock",
        "__malloc_free_list",
        "_Znwj",
        "_Znaj",
        "_Znwm",
        "_Znam",
        "_ZdlPv",
        "_ZdaPv",
    ),
)
_ALLOCATED, _WRITABLE = 2, 1


@dataclass(frozen=True)
class ElfSizes:
    """Sizes of a firmware.

    Attributes:
        flash_bytes: Code, constants and initial data, as programmed.
        data_bytes: Initialised and zeroed data in RAM, and the handlers' own stack.
        stack_bytes: The reserve of the program's stack.
        heap_symbols: Allocation functions that are linked; none is right.
    """

    flash_bytes: int
    data_bytes: int
    stack_bytes: int
    heap_symbols: tuple[str, ...]

    @property
    def ram_bytes(self) -> int:
        """All of the RAM: data and stack."""
        return self.data_bytes + self.stack_bytes


def read_sizes(path: Path) -> ElfSizes:
    """Reads the sizes of an ELF file.

    Raises:
        UserError: Not an ELF file.
    """
    try:
        with path.open("rb") as file:
            return _sizes(ELFFile(file))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except ELFError as error:
        raise UserError(f"{path}: not an ELF file: {error}") from error


def function_bytes(path: Path) -> dict[str, int]:
    """Code bytes of every function of an ELF or object file, by name."""
    with path.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".symtab")
        listed = [] if symbols is None else list(symbols.iter_symbols())
        return {
            str(symbol.name): int(symbol["st_size"])
            for symbol in listed
            if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF"
        }


def section_sizes(path: Path) -> dict[str, int]:
    """Bytes of every section of an ELF or object file, by name."""
    with path.open("rb") as file:
        return {str(s.name): int(s["sh_size"]) for s in ELFFile(file).iter_sections()}


def _sizes(elf: ELFFile) -> ElfSizes:
    flash = data = stack = 0
    for section in elf.iter_sections():
        flags, size = section["sh_flags"], section["sh_size"]
        if not flags & _ALLOCATED:
            continue
        if section.name == ".stack":
            stack += size
            continue
        if section["sh_type"] != "SHT_NOBITS":
            flash += size
        if flags & _WRITABLE:
            data += size
    symbols = elf.get_section_by_name(".symtab")
    names = {symbol.name for symbol in symbols.iter_symbols()} if symbols is not None else set()
    return ElfSizes(flash, data, stack, tuple(name for name in HEAP_SYMBOLS if name in names))
