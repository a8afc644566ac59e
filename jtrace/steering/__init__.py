"""Vectors added to a model: conditions, experiments and what came of them."""
