"""What `import ondevice` gives: models, boards and runs as Python objects."""
