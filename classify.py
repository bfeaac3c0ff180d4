"""Label new texts with a saved model: `python classify.py --help`."""

from frozenbert.heads.logistic import make_head
from frozenbert.heads.words import make_words_baseline

__all__ = ["make_head", "make_words_baseline"]

if __name__ == "__main__":
    import sys

    from frozenbert.cli.main import run_command

    sys.exit(run_command("classify"))
