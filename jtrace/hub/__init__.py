"""The Hugging Face hub: listings, checked downloads, and the cache that keeps them."""
