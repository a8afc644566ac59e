"""From flags to one call: a file per command."""
