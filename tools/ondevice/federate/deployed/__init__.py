"""Flower's deployment runtime: SuperLink and SuperNodes, with apps that are installed already."""
