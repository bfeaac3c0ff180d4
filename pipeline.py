"""Train, measure and save a text classifier: `python pipeline.py --help`."""

from frozenbert.persistence import load_model, save_model
from frozenbert.pipeline import make_text_classifier

__all__ = ["load_model", "make_text_classifier", "save_model"]

if __name__ == "__main__":
    import sys

    from frozenbert.cli.main import run_command

    sys.exit(run_command("train"))
