"""Files, locks, threads, progress and devices: nothing of models."""
