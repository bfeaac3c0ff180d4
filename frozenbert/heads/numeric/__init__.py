"""Targets that are numbers or grades: ridge regression, and classifiers of ordered grades."""
