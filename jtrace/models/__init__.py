"""The model that a checkpoint becomes: one decoder for all families, and a classifier."""
