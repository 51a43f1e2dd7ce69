"""The linker script of a board: its memory, and stacks that must fit."""

from __future__ import annotations

from ondevice.boards import Board

HANDLER_STACK_BYTES = 512
"""Interrupts and the fault handler run on a stack of their own."""

_TEMPLATE = """/* {title}: made from boards/{name}.ini. */
ENTRY(reset_handler)
MEMORY {{
    FLASH (rx) : ORIGIN = {flash_origin:#010x}, LENGTH = {firmware_bytes}
    RAM (rwx) : ORIGIN = {ram_origin:#010x}, LENGTH = {ram_bytes}
}}
od_image_start = ORIGIN(FLASH);
od_image_end = LOADADDR(.data) + SIZEOF(.data);
/* What lies in no segment is left as it is by whoever loads the program, also when it restarts. */
PHDRS {{
    code PT_LOAD;
    data PT_LOAD;
}}
SECTIONS {{
    .text : {{
        od_text_start = .;
        KEEP(*(.vectors)) KEEP(*(.od_image)) *(.text*)
        od_text_end = .;
        *(.rodata*) . = ALIGN(8);
    }} > FLASH :code
    .ARM.exidx : {{ *(.ARM.exidx*) }} > FLASH :code
    /* The stack is the first of the RAM: what overflows it leaves the RAM and reaches no data. Its
     * reserve is a section, so that the linker itself counts it. */
    .stack (NOLOAD) : {{
        od_stack_limit = .; . += {stack_bytes}; . = ALIGN(8); od_stack_top = .;
    }} > RAM :NONE
    .handler_stack (NOLOAD) : {{
        od_handler_stack_limit = .; . += {handler_stack_bytes}; od_handler_stack_top = .;
    }} > RAM :NONE
    .noinit (NOLOAD) : {{ *(.noinit*) }} > RAM :NONE
    od_data_load = LOADADDR(.data);
    .data : {{
        . = ALIGN(4); od_data_start = .;
        *(.data*)
        . = ALIGN(4); od_data_end = .;
    }} > RAM AT > FLASH :data
    .bss (NOLOAD) : {{
        . = ALIGN(4); od_bss_start = .;
        *(.bss*) *(COMMON)
        . = ALIGN(8); od_bss_end = .;
    }} > RAM :NONE
    /DISCARD/ : {{ *(.comment) *(.note*) }}
}}
"""


def linker_script(board: Board) -> str:
    """The script's text."""
    return _TEMPLATE.format(
        **vars(board),
        firmware_bytes=board.firmware_bytes,
        handler_stack_bytes=HANDLER_STACK_BYTES,
    )
