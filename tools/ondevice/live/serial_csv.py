"""A sensor that prints rows of numbers to a serial port, as an Arduino sketch does."""

from ondevice.errors import UserError
from ondevice.link.transport import SerialTransport
from ondevice.live.text_source import FIRST_ROW_S, TextSource

DEFAULT_BAUD = 115200


def open_serial(place: str, first_row_s: float = FIRST_ROW_S) -> TextSource:
    """Opens PORT[@BAUD].

    Args:
        place: E.g. "/dev/ttyUSB0@9600".
        first_row_s: How long the first row is waited for; many boards start when a port is opened.

    Raises:
        UserError: No such port, no permission, in use, or no row of numbers came.
    """
    port, at, baud_text = place.rpartition("@")
    if not at:
        port, baud_text = place, str(DEFAULT_BAUD)
    if not (baud_text.isascii() and baud_text.isdigit() and 50 <= int(baud_text) <= 10**7):
        raise UserError(
            f"serial:{place}: baud rate {baud_text!r}; allowed: 50 to 10000000, e.g. @115200"
        )
    if not port:
        raise UserError(f"serial:{place}: names no port; see `ondevice ports`")
    return TextSource(
        SerialTransport(port, int(baud_text)), may_begin_cut=True, first_row_s=first_row_s
    )
