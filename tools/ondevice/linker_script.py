"""The linker script of a board: its memory, and a stack that must fit."""

from __future__ import annotations

from ondevice.boards import Board

_TEMPLATE = """/* {title}: made from boards/{name}.ini. */
ENTRY(reset_handler)
MEMORY {{
    FLASH (rx) : ORIGIN = {flash_origin:#010x}, LENGTH = {firmware_bytes}
    RAM (rwx) : ORIGIN = {ram_origin:#010x}, LENGTH = {ram_bytes}
}}
od_stack_top = ORIGIN(RAM) + LENGTH(RAM);
SECTIONS {{
    .text : {{ KEEP(*(.vectors)) *(.text*) *(.rodata*) . = ALIGN(4); }} > FLASH
    .ARM.exidx : {{ *(.ARM.exidx*) }} > FLASH
    od_data_load = LOADADDR(.data);
    .data : {{
        . = ALIGN(4); od_data_start = .;
        *(.data*)
        . = ALIGN(4); od_data_end = .;
    }} > RAM AT > FLASH
    .bss (NOLOAD) : {{
        . = ALIGN(4); od_bss_start = .;
        *(.bss*) *(COMMON)
        . = ALIGN(8); od_bss_end = .;
    }} > RAM
    /* The stack's reserve is a section, so that the linker itself counts it. */
    .stack (NOLOAD) : {{ od_stack_limit = .; . += {stack_bytes}; }} > RAM
    /DISCARD/ : {{ *(.comment) *(.note*) }}
}}
"""


def linker_script(board: Board) -> str:
    """The script's text."""
    return _TEMPLATE.format(**vars(board), firmware_bytes=board.firmware_bytes)
