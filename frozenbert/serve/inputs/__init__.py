"""What requests bring beside texts: tables, and records of a model with columns."""
