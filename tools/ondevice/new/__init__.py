"""New projects: `ondevice new`."""
