"""Sensors that go on giving samples: what `ondevice record` and `ondevice predict` read."""
