"""Ctrl-C while a server waits for its clients."""

import signal
from collections.abc import Iterable
from typing import Any

import pytest
from flwr.app import Message

from ondevice.federate.exchange import exchange


class SlowGrid:
    """Is asked once, is interrupted meanwhile, and answers all the same."""

    def __init__(self) -> None:
        self.answered = 0

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        return [str(i) for i, _ in enumerate(messages)]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        signal.raise_signal(signal.SIGINT)
        self.answered += 1
        return []


def test_an_interrupt_waits_for_flowers_answer_and_then_ends_the_round() -> None:
    grid: Any = SlowGrid()
    message: Any = type("Message", (), {"metadata": type("M", (), {"dst_node_id": 1})})
    with pytest.raises(KeyboardInterrupt):
        exchange(grid, [message], 5.0)
    assert grid.answered == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
