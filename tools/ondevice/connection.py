"""The device in use, and the way to one in its place when its link has failed."""

from collections.abc import Callable
from types import TracebackType

from ondevice.errors import LinkError
from ondevice.link.device import Device


class Connection:
    """One device at a time; a context manager that closes the last.

    Attributes:
        device: Now in use.
    """

    def __init__(self, device: Device, open_again: Callable[[], Device] | None) -> None:
        """Takes over a device.

        Args:
            device: That answers.
            open_again: Opens the port again, or starts the simulated board again; None: it cannot.
        """
        self.device = device
        self._open_again = open_again

    def reopen(self) -> Device:
        """Lets go of the device and returns another.

        Raises:
            LinkError: None could be opened; may be tried again.
        """
        if self._open_again is None:
            raise LinkError("this device cannot be opened again")
        self.device.abandon()
        self.device = self._open_again()
        return self.device

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.device.__exit__(kind, error, traceback)
