"""Sweeps over many checkpoints, each fetched, read, traced and let go."""
