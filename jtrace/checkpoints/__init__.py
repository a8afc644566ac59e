"""Checkpoints: references, readers of their files, conversion to Flax params and back."""
