"""Encoders behind an API: another machine computes the vectors, and is sent the texts."""
