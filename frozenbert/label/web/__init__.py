"""The page of a labelling session: its server, its routes, its annotators."""
