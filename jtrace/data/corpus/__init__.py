"""Text for pre-training: read, tokenised, laid out in rows and put in order."""
