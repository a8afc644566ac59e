"""Statistics of arrays that know of no model."""
