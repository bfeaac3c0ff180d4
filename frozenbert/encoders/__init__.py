"""Encoders: find one, load it, batch token ids, run it."""
