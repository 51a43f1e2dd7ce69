"""The live view of a training run in a terminal: events become a state, a state a picture."""
