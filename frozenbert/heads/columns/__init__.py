"""Models of texts and of the other columns of a table."""
