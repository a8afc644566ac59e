"""One file for each sub-benchmark."""
