"""The Hugging Face hub: what it is asked for, how it is checked, where it is kept."""
