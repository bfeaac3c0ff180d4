"""Command line: parser, shared options, output, one module for each command."""
