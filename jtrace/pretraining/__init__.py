"""Pre-training a model of one's own."""
