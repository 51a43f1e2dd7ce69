"""Features of sound in integers, the same on host and device: docs/features.md."""
