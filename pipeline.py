"""Train, measure and save a text classifier: `python pipeline.py --help`."""

from frozenbert.pipeline import make_text_classifier
from frozenbert.saved import load_model, save_model

__all__ = ["load_model", "make_text_classifier", "save_model"]

if __name__ == "__main__":
    import sys

    from frozenbert.cli import train

    sys.exit(train())
