"""What is learned from the labels so far: guesses, what to ask, the estimate, audits."""
