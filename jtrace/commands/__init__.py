"""Flags become one call here: a file per command."""
