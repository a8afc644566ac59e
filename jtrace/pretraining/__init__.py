"""Pre-training of small models from text."""
