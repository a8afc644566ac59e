"""Readers of foreign weight files, which execute nothing."""
