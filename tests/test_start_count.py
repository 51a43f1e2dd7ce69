"""The count of starts in flash: no number twice, no checkpoint lost, wherever the power goes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize("unit_bytes", [4, 8, 16, 32])
@pytest.mark.parametrize("bank_bytes", [4096, 8192])
def test_power_cuts_repeat_no_number_and_lose_no_checkpoint(
    compile_c: Callable[[str], Path], unit_bytes: int, bank_bytes: int
) -> None:
    command = [str(compile_c("start_cuts")), str(unit_bytes), str(bank_bytes), "400", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counted, cuts, cuts_in_erase, saves, erases = map(int, done.stdout.split())
    assert counted > 200
    assert cuts > 150
    assert cuts_in_erase > 0
    assert saves > 500
    assert erases > 20
