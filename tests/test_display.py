"""What a person sees of a run, with and without a terminal."""

import io

import pytest
from rich.console import Console

from ondevice.budget import Budget, BudgetError, check_budget
from ondevice.config import TrainingSettings
from ondevice.display import TrainingDisplay
from ondevice.train import run_training
from toy_training import ToyDevice, toy_dataset, toy_manifest


def _shown(terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=200, soft_wrap=True)
    settings = TrainingSettings(steps=500, learning_rate=0.5)
    seconds = iter(range(10**6))
    with TrainingDisplay(console, clock=lambda: float(next(seconds))) as display:
        run_training(ToyDevice(), toy_manifest(), toy_dataset(), settings, display.on_event)
    return stream.getvalue()


def test_without_a_terminal_a_run_is_ten_plain_lines_and_the_measurements() -> None:
    text = _shown(terminal=False)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert len([line for line in lines if line.startswith("step ")]) == 10
    assert lines[-2].startswith("step 500/500: loss ")
    assert "1 samples/s, 1,000 instructions/step, RAM 104 B" in lines[-2]
    assert lines[-1].startswith("After training: accuracy ")


def test_a_terminal_shows_a_bar_that_ends_full() -> None:
    text = _shown(terminal=True)
    assert "500/500" in text
    assert "instructions/step" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is visible again


def test_a_model_that_does_not_fit_says_by_how_much_and_which_tensors() -> None:
    budget = Budget(5000, 1000, 5500, 100, 200)
    with pytest.raises(BudgetError) as refused:
        check_budget(budget, toy_manifest(), "tinyboard")
    message = str(refused.value)
    assert "does not fit tinyboard" in message
    assert "500 B too much" in message
    assert "biggest tensors: fc.weight 24 B, x 12 B" in message


def test_a_model_that_fits_to_the_byte_is_accepted() -> None:
    check_budget(Budget(4500, 1000, 5500, 200, 200), toy_manifest(), "tinyboard")


def test_constants_beyond_the_flash_are_refused() -> None:
    with pytest.raises(BudgetError, match=r"flash: 1 B too much"):
        check_budget(Budget(10, 0, None, 201, 200), toy_manifest(), "tinyboard")
