"""Tables of a run → words, figures and a page."""
