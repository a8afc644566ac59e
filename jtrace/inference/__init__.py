"""A model at work: residuals, scores and completions of packed statements."""
