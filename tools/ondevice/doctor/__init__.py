"""`ondevice doctor`: what a person needs, what of it is there, and how to get the rest."""
