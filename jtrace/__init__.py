"""jtrace: trace how trustworthiness forms while a language model is pre-trained."""
