"""How fast jtrace is, beside its torch and scikit-learn peers and beside what the device could do at most."""
