"""What changes over the checkpoints of one pre-training."""
