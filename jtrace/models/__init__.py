"""What a checkpoint becomes: one decoder that every model family reduces to."""
