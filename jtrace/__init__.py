"""jtrace: trace how trustworthiness forms while a language model is pre-trained."""

import os

# transformers serves its tokenisers alone here; that it finds no torch is no news.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
