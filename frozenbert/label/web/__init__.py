"""The page of a labelling session: its server, its annotators, and the final model."""
