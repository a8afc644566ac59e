"""The peers of jtrace: torch and scikit-learn, as published and batched (extra `torch`)."""
