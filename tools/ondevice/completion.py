"""What a shell offers when Tab is pressed."""

SCHEMES = ("full", "last", "last-2", "last-4", "bias", "bias-only", "bn", "tinytl", "sparse:")


def board_names(incomplete: str) -> list[str]:
    """Names of boards that begin so."""
    from ondevice.boards import list_boards

    return [name for name in list_boards() if name.startswith(incomplete)]


def port_names(incomplete: str) -> list[str]:
    """Serial ports of this computer that begin so."""
    from ondevice.ports import list_ports

    return [port.device for port in list_ports() if port.device.startswith(incomplete)]


def scheme_names(incomplete: str) -> list[str]:
    """Update schemes that begin so."""
    return [name for name in SCHEMES if name.startswith(incomplete)]
