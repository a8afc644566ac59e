"""Jitted functions from arrays to arrays: no files, no models, nothing from the rest of jtrace."""
