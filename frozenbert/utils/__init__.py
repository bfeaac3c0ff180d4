"""Utilities: files that appear whole, text helpers, the console."""
