"""A run as one HTML file that needs nothing else: one section a module, one template a section."""
