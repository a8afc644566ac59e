"""Where statements come from, how they are split, and how they are packed for the forward."""
