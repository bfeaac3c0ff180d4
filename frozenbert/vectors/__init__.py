"""Vectors: jobs that turn texts into vectors, and the cache that stores them."""
