"""How long the host waits for a board, and when it asks again."""

import time
from dataclasses import dataclass, field

_RETRY_GROWTH_MAX = 8  # the time between two retries doubles up to this
_PROMPT_RESENDS = 3  # on a NAK or noise, between two timeouts: noise must not breed noise


@dataclass(frozen=True)
class Timing:
    """How long to wait.

    Attributes:
        retry_s: Before a request is sent again for the first time; doubles from there. The time
            on the wire and twice the request's usual duration are added by themselves.
        reply_s: Before the link is given up, for a request that costs the board nothing.
        command_s: The same for one that computes, such as a training step.
        connect_s: The same for the first answer of a board that may still be starting.
        bye_s: The same for the last answer, which nobody needs.
    """

    retry_s: float = 0.25
    reply_s: float = 10.0
    command_s: float = 120.0
    connect_s: float = 10.0
    bye_s: float = 1.0


@dataclass
class Patience:
    """When to send again and when to give up, during one wait."""

    retry_s: float
    limit_s: float
    growth: int = 1
    prompt_resends: int = _PROMPT_RESENDS
    retry_at: float = field(init=False)
    give_up_at: float = field(init=False)

    def __post_init__(self) -> None:
        now = time.monotonic()
        self.retry_at = now + self.retry_s
        self.give_up_at = now + self.limit_s

    def retried(self) -> None:
        """Wait longer before the next time."""
        self.growth = min(2 * self.growth, _RETRY_GROWTH_MAX)
        self.prompt_resends = _PROMPT_RESENDS
        self.retry_at = time.monotonic() + self.retry_s * self.growth
