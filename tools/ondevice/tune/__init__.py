"""Finds the fastest register tile of every kernel by measuring (docs/tuning.md)."""
