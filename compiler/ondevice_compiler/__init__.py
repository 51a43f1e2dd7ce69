"""Compiles a neural network into a static training step in C."""
