"""Turn a file of texts into vectors: `python embed.py --help`."""

from frozenbert.embed import DistilBertVectorizer

__all__ = ["DistilBertVectorizer"]

if __name__ == "__main__":
    import sys

    from frozenbert.cli.main import run_command

    sys.exit(run_command("embed"))
