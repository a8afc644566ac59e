"""What a model is asked, how its answers are judged, and the rates that come of it."""
