"""Label new texts with a saved model: `python classify.py --help`."""

from frozenbert.classify import make_head
from frozenbert.words import make_words_baseline

__all__ = ["make_head", "make_words_baseline"]

if __name__ == "__main__":
    import sys

    from frozenbert.cli import classify

    sys.exit(classify())
