"""Counts what one call of one kernel costs, in QEMU or on a board."""
