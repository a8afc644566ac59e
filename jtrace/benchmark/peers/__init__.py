"""What jtrace is measured against: torch and scikit-learn, as published and batched (extra `torch`)."""
