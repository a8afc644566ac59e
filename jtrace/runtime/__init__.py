"""Files, locks, threads, progress and devices, without models."""
