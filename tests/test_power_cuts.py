"""Cuts of power while checkpoints are written: at every step in C, at random times in QEMU."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from power_cuts import PowerCutError, Victim, cut_power

UNITS = [1, 4, 8, 16, 32]  # bytes


@pytest.fixture(scope="module")
def cut_everywhere(compile_c: Callable[[str], Path]) -> Callable[..., list[int]]:
    """Runs tests/c/checkpoint_cuts.c, which checks what every cut leaves."""

    def run(unit: int, bank_bytes: int, saves: int, seed: int, first: str) -> list[int]:
        arguments = [str(n) for n in (unit, bank_bytes, saves, seed)]
        done = subprocess.run(
            [compile_c("checkpoint_cuts"), *arguments, first],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [int(word) for word in done.stdout.split()]

    return run


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("first", ["erased", "garbage", "other"])
def test_no_cut_at_any_step_loses_the_newest_or_the_best(
    cut_everywhere: Callable[..., list[int]], unit: int, first: str
) -> None:
    cuts, in_program, in_erase, torn, later, a, b, damages = cut_everywhere(
        unit, 640, 10, unit, first
    )
    assert cuts == in_program + in_erase
    # A record of 180 bytes: its units, one by one, in each of 10 saves.
    assert in_program >= 10 * 180 // unit
    assert in_erase >= 4
    assert torn >= 0.9 * in_program
    assert later > cuts / 2
    assert a > 1
    assert b > 1
    assert damages >= 2 * 640


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    unit=st.sampled_from(UNITS[2:]),
    records=st.integers(1, 6),
    spare=st.integers(0, 6),
    seed=st.integers(1, 10_000),
    first=st.sampled_from(["erased", "garbage", "other"]),
)
def test_nor_does_one_in_banks_of_any_size(
    cut_everywhere: Callable[..., list[int]],
    unit: int, records: int, spare: int, seed: int, first: str,
) -> None:  # fmt: skip
    record = sum(-(-part // unit) * unit for part in (80, 92, 8))
    header = -(-20 // unit) * unit
    bank_bytes = header + records * record + spare * unit
    assert cut_everywhere(unit, bank_bytes, 8, seed, first)[0] > 0


def test_a_board_that_is_killed_starts_with_what_it_saved(tmp_path: Path) -> None:
    figures = cut_power(tmp_path, cuts=8, seed=5, torn=2)
    assert figures.cuts >= 8
    assert figures.in_write >= 2
    assert figures.saves > 0


def test_a_flash_that_lost_its_checkpoints_is_not_taken_for_a_good_one(tmp_path: Path) -> None:
    victim = Victim(tmp_path, seed=6)
    victim.live_and_die()
    flash = tmp_path / "flash.bin"
    flash.write_bytes(b"\xff" * flash.stat().st_size)
    with pytest.raises(PowerCutError, match="newest"):
        victim.live_and_die()
