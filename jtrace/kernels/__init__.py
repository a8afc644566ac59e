"""Arrays in, arrays out, jitted: no files, no models, nothing of the rest of jtrace."""
