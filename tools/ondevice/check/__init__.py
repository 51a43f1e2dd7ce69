"""Model, data and board against each other before anything is built: `ondevice check`."""
