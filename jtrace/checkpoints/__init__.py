"""Where weights come from: references to checkpoints, readers of their files, conversion to Flax params."""
