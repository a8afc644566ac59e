"""Benchmarks: the speed of jtrace beside torch and scikit-learn, and beside the limits of the device."""
