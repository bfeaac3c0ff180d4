"""Vectors: jobs from texts to vectors, and the cache that keeps them."""
