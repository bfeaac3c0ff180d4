"""Votes: what out-of-fold scores of vectors and of words decide, and what each part adds."""
