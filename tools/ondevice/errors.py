"""Errors that are the user's to mend: the command line prints one line and exits with 1."""


class UserError(Exception):
    """Something outside the program is wrong; the message says what, and what to do."""


class LinkError(UserError):
    """The link to the board failed: no port, no answer, a restart, a program that ended."""


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
