"""Register tiles: how many outputs a kernel computes at once, and the loops that do it."""
