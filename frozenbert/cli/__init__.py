"""The command line: parser, shared options, output, one module per command."""
