"""Text to pre-train on: read, tokenised, laid out in rows and put in order."""
