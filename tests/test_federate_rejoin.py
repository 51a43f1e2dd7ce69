"""What a node makes of a server that does not let it in; Flower's own words are in the logs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from ondevice.errors import UserError
from ondevice.federate import join
from ondevice.federate.join import MEMORY_FILE, Node, join_federation, refusal

REFUSED = """\
ERROR :     Exit Code: 305
Failed to initialize the connection to the SuperLink.
[code: 2004] Failed to activate SuperNode.
INFO:     Application shutdown complete.
"""
SERVER_ENDED = REFUSED.replace("[code: 2004] Failed to activate SuperNode.", "Connection reset")
WAS_IN = "INFO :      SuperNode ID: 17\n"


class ServerEndedError(Exception):
    """The server's part is over."""


class ScriptedNode:
    """A SuperNode that has ended, and its log."""

    runtime = None

    def __init__(self, log: str) -> None:
        self._log = log

    @property
    def child(self) -> "ScriptedNode":
        return self

    def ended(self) -> bool:
        return True

    def log(self) -> str:
        return self._log


Join = Callable[[Sequence[str]], list[str]]


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Join:
    """Joins with SuperNodes of these logs, one after the other; gives what was said."""
    clock_s = [0.0]

    def run(logs: Sequence[str]) -> list[str]:
        left, said = list(logs), list[str]()

        @contextmanager
        def open_supernode(server: str, keys: object) -> Iterator[ScriptedNode]:
            if not left:
                raise ServerEndedError
            yield ScriptedNode(left.pop(0))

        monkeypatch.setattr("ondevice.federate.deployed.supernode.open_supernode", open_supernode)
        node = Node("alice", {}, [], [], tmp_path, lambda: pytest.fail("no board is needed"))
        try:
            join_federation(node, "localhost:1", None, said.append)
        except ServerEndedError:
            return said
        raise AssertionError("a node joins until it is interrupted")

    def sleep(seconds: float) -> None:
        clock_s[0] += seconds

    monkeypatch.setattr(join, "wait_for_server", lambda *_: None)
    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: clock_s[0])
    return run


def test_a_node_that_was_never_let_in_is_told_at_once(joined: Join) -> None:
    with pytest.raises(UserError, match=r"refuses alice: \[code: 2004\] Failed to activate"):
        joined([REFUSED, WAS_IN])


def test_a_node_that_was_killed_comes_back_when_the_server_has_missed_it(joined: Join) -> None:
    said = joined([WAS_IN, *[REFUSED] * 15, WAS_IN])
    assert sum("has not missed it yet" in line for line in said) == 1


def test_a_node_that_was_started_again_after_a_kill_is_patient_too(
    joined: Join, tmp_path: Path
) -> None:
    (tmp_path / MEMORY_FILE).write_text("{}")
    joined([*[REFUSED] * 15, WAS_IN])


def test_patience_ends_where_the_key_was_taken_off_the_list(joined: Join) -> None:
    with pytest.raises(UserError, match="refuses alice"):
        joined([WAS_IN, *[REFUSED] * 100])


def test_each_time_of_being_let_in_gives_new_patience(joined: Join) -> None:
    joined([WAS_IN, *[REFUSED] * 15, WAS_IN, *[REFUSED] * 15, WAS_IN])


def test_a_server_that_ends_while_a_node_connects_has_refused_nothing(joined: Join) -> None:
    assert refusal(SERVER_ENDED) == ""
    joined([SERVER_ENDED, WAS_IN])
