"""The run directory and every file in it."""
