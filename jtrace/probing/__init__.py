"""One checkpoint's residuals → metrics, probes and vectors, under both protocols."""
