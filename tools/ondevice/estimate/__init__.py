"""An estimate of a Cortex-M's cycles from the instructions that QEMU executed (docs/profile.md)."""
