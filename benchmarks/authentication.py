"""What BLAKE2s costs on a simulated STM32F405, in instructions: of a digest, and of a frame's tag.

.venv/bin/python benchmarks/authentication.py
"""

import tempfile
from pathlib import Path

from ondevice.boards import load_board
from ondevice.build import build_firmware, simulate_command
from ondevice.link.device import Device
from ondevice.link.transport import ProcessTransport

ROOT = Path(__file__).resolve().parent.parent
BOARD = load_board("qemu_f405")
TAG, NOTHING = 0x80000000, 0x40000000
SIZES = (0, 64, 1024, 65536)
FRAMES = (10, 14, 34, 618, 1018)
"""Header and payload: empty, TRAIN with its rate, a result, a sample of 600 bytes, the largest."""

# evaluate() hashes as many bytes of flash as the label says.
_WORK = f"""
    static uint8_t digest[32];
    if ((label & {TAG}u) != 0) {{
        od_frame_tag(input, OD_FROM_HOST, (const uint8_t *)0x08000000, label & ~{TAG}u, digest);
    }} else if (label != {NOTHING}u) {{
        od_blake2s_t state;
        od_blake2s_begin(&state, sizeof digest, 0, 0);
        od_blake2s_add(&state, (const uint8_t *)0x08000000, label);
        od_blake2s_end(&state, digest);
    }}
"""


def model_text() -> str:
    """The tests' fake model with that work before its own."""
    text = (ROOT / "tests" / "c" / "fake_model.c").read_text(encoding="utf-8")
    head = "static int32_t evaluate(od_result_t *result, od_trace_t *trace) {"
    includes = '#include "ondevice/authentication.h"\n#include "ondevice/blake2s.h"\n'
    return includes + text.replace(head, head + _WORK)


def main() -> None:
    """Prints both tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model").mkdir()
        (folder / "model" / "model.c").write_text(model_text(), encoding="utf-8")
        firmware = build_firmware(folder / "model", BOARD, folder / "build")
        command = simulate_command(firmware, BOARD)
        with Device(ProcessTransport(command, name=BOARD.name)) as device:

            def count(label: int) -> int:
                device.write_label(label.to_bytes(4, "little"))
                return device.evaluate().count

            before = count(NOTHING)
            for size in SIZES:
                print(f"digest of {size} bytes: {count(size) - before} instructions")
            for size in FRAMES:
                print(f"tag of a frame of {size} bytes: {count(TAG | size) - before} instructions")
            per_byte = (count(SIZES[-1]) - count(64)) / (SIZES[-1] - 64)
            print(f"per byte of an image: {per_byte:.1f} instructions")


if __name__ == "__main__":
    main()
