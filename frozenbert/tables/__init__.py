"""Tables: read and write files of texts, find columns, check cells."""
