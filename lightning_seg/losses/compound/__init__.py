"""Weighted sums of losses, schedules of their weights, and losses at several resolutions."""
