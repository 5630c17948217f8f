"""What losses are computed by: checked inputs, statistics of pixels, and the one pass over the logits behind them."""
