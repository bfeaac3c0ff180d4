"""Reports of models of numbers and grades: scores, plots and comparisons."""
