"""Where the instructions or cycles of a training step go (docs/profile.md)."""
