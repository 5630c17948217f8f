"""Losses that are means over pixels."""
