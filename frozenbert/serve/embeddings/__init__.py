"""Vectors as a service, in the form that OpenAI's clients speak."""
