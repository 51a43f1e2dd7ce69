"""The framed link to a board: docs/PROTOCOL.md, host side."""
