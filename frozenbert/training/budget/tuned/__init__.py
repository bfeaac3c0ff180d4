"""Encoders that are trained on the labels as a step of a budget, one for each fold."""
