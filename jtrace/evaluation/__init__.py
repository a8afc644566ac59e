"""Tasks: questions to a model, judgements of its answers, and the rates that these come to."""
