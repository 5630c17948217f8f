"""Losses that look at the boundary or the topology of the target."""
