"""Errors that are the user's to mend: the command line prints one line and exits with 1."""

from typing import TYPE_CHECKING

from ondevice_compiler.errors import UserError as UserError  # one class, whoever raises it

if TYPE_CHECKING:
    from ondevice.fault import Fault


class LinkError(UserError):
    """The link to the board failed: no port, no answer, a restart, a program that ended."""


class BoardFault(LinkError):  # noqa: N818 (the field's word)
    """The board's firmware failed and the board restarted; its session and weights are gone.

    Attributes:
        fault: What its fault handler wrote down. The same twice at the same request is a fault of
            the firmware or of what it was sent, which no new attempt mends.
    """

    def __init__(self, message: str, fault: "Fault") -> None:
        super().__init__(message)
        self.fault = fault


class HandshakeError(LinkError):
    """The board answers, but runs another protocol, another model or no firmware of ours."""


class DeviceError(UserError):
    """The board refused a request or failed to carry it out.

    Attributes:
        code: The failure, as numbered in docs/PROTOCOL.md.
        detail: The model's status or the board's CRC, where the failure has one; else 0.
    """

    def __init__(self, message: str, code: int, detail: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail
