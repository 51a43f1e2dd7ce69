"""Messages to clients and their answers, until all are in or time is up."""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from ondevice.interrupt import StopOnInterrupt

Answer = TypeVar("Answer")

POLL_S = 0.05
LONGEST_POLL_S = 0.5


def exchange(
    grid: Grid,
    messages: Iterable[Message],
    timeout_s: float,
    on_reply: Callable[[Message], None] = lambda message: None,
) -> list[Message]:
    """Sends messages and waits for their replies.

    Flower's own `send_and_receive` asks every three seconds, which is longer than a round of small
    boards.

    Args:
        grid: Flower's way to the nodes.
        messages: At most one a node.
        timeout_s: Replies that come later are not taken.
        on_reply: Called with each as it arrives, errors too.

    Returns:
        The replies, in order of arrival.
    """
    messages = list(messages)
    nodes = [message.metadata.dst_node_id for message in messages]
    waiting = dict(zip(_uninterrupted(lambda: grid.push_messages(messages)), nodes, strict=True))
    deadline_s, pause_s = time.monotonic() + timeout_s, POLL_S
    replies: list[Message] = []
    while waiting:
        found = _uninterrupted(lambda: list(grid.pull_messages(waiting)))
        for message in found:
            node = waiting.pop(message.metadata.reply_to_message_id)
            # For a node that is gone Flower answers itself, from a node 1 that there is not.
            message.metadata.__dict__["_src_node_id"] = node
            replies.append(message)
            on_reply(message)
        if not waiting or time.monotonic() > deadline_s:
            break
        pause_s = POLL_S if found else min(1.5 * pause_s, LONGEST_POLL_S)
        time.sleep(pause_s)
    return replies


def _uninterrupted(call: Callable[[], Answer]) -> Answer:
    """Calls Flower; Ctrl-C takes effect when it has answered.

    An exception in the middle could leave a lock of its HTTP client taken, on which the end of the
    run would wait forever.
    """
    with StopOnInterrupt() as interrupt:
        answer = call()
    if interrupt.requested():
        raise KeyboardInterrupt
    return answer
