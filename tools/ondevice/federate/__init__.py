"""Boards that learn together: rounds of local training whose changes a server averages."""
