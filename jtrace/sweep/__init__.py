"""Many checkpoints: what is to be done, fetched, traced and let go."""
