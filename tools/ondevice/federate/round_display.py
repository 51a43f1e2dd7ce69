"""A federated run for people: a line an event."""

from collections.abc import Callable

from ondevice.display import format_bytes
from ondevice.federate.round_events import (
    ClientFailed,
    FederationEvent,
    FederationStarted,
    GlobalEvaluated,
    RoundEnded,
)


class RoundDisplay:
    """Prints rounds as they end.

    Args:
        say: Takes lines.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rounds = 0
        self._dense_bytes = 0

    def on_event(self, event: FederationEvent) -> None:
        """Prints one event."""
        if isinstance(event, FederationStarted):
            self._rounds, self._dense_bytes = event.rounds, event.dense_bytes
            compress = "dense" if event.compress == "none" else event.compress
            self._say(
                f"Federating {event.model}: {event.clients} clients, {event.samples} samples, "
                f"{event.strategy}, {compress} updates, rounds {event.round + 1} to {event.rounds}"
            )
        elif isinstance(event, ClientFailed):
            self._say(f"round {event.round}: {event.client} gave no update: {event.reason}")
        elif isinstance(event, RoundEnded):
            self._say(self._round_line(event))
        elif isinstance(event, GlobalEvaluated):
            moment = "Before" if event.round == 0 else f"After round {event.round}"
            self._say(
                f"{moment}: accuracy {100 * event.accuracy:.1f} % ({event.correct} of "
                f"{event.samples} held-out samples), loss {event.loss:.3f}"
            )

    def _round_line(self, event: RoundEnded) -> str:
        update = event.up_bytes / max(event.answered, 1)
        down = event.down_bytes / max(event.asked, 1)
        factor = f" ({self._dense_bytes / update:.0f}x less)" if update < self._dense_bytes else ""
        again = event.attempts - event.answered
        return (
            f"round {event.round}/{self._rounds}: {event.answered} of {event.asked} clients, loss "
            f"{event.loss:.3f}, up {format_bytes(round(update))}{factor} and down "
            f"{format_bytes(round(down))} a client"
            + (f", {again} begun again" if again > 0 else "")
        )
