"""TODO lightning_seg/runs."""
