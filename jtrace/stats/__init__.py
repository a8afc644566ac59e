"""Statistics of arrays: no models, no files."""
