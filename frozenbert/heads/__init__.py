"""Heads: classifiers on vectors and on words, and the searches that tune them."""
