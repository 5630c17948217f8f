"""TODO lightning_seg/launch."""
