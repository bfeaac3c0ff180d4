"""Make the saved models of this folder: one of each kind, on a tiny encoder.

    python tests/saved/make.py [KIND ...]

`tests/test_saved_models.py` loads them and compares their probabilities with expected.json. Name
the kinds that are new. Run this for all only when a change of the format is intended, and raise
`FORMAT` in `frozenbert/reports/sidecar.py` with it. The folder `earlier/` is not made here: it was
saved before the package had folders, and cannot be loaded any more.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import pandas as pd  # noqa: E402
from conftest import make_encoder  # noqa: E402
from sklearn.base import BaseEstimator  # noqa: E402

from frozenbert import make_text_classifier, make_text_regressor, save_model  # noqa: E402
from frozenbert.fewshot import FewShotClassifier  # noqa: E402
from frozenbert.pipeline import predict, read_columns  # noqa: E402
from frozenbert.training import train  # noqa: E402
from frozenbert.training.budget import spending  # noqa: E402
from frozenbert.training.budget.candidates import Characters  # noqa: E402

WORDS = {"good": ("good", "fine", "warm", "funny"), "bad": ("bad", "dull", "slow", "cold")}
THINGS = ("film", "plot", "scene", "actor")
TEXTS = [f"a {WORDS[label][n % 4]} {THINGS[n // 4 % 4]} {n}" for n in range(16) for label in WORDS]
LABELS = [label for _ in range(16) for label in WORDS]
FLAGS = [[int(label == "good"), int(n % 3 == 0)] for n, label in enumerate(LABELS)]
NUMBERS = [n / 8 if label == "good" else -n / 8 for n, label in enumerate(LABELS)]
STARS = [(3 if label == "good" else 1) + (n // 2 % 2) for n, label in enumerate(LABELS)]
POOL = [f"the {word} {thing} !" for words in WORDS.values() for word in words for thing in THINGS]
NEW = ["a good one", "a bad one", "the plot &amp; the scene https://example.org", ""]
# A new category, a missing cell of each kind.
NEW_ROWS = [
    {"text": NEW[0], "price": 1.5, "shop": "north", "city": "city 3", "day": "2024-03-01"},
    {"text": NEW[1], "price": None, "shop": "east", "city": "city 50", "day": "2024-03-01 12:00"},
    {"text": NEW[3], "price": -2, "shop": None, "city": None, "day": None},
]
COLUMNS = {"text": "text", "number": "price", "category": ["shop", "city"], "date": "day"}

KINDS: dict[str, dict[str, object]] = {
    "plain": {},
    "searched_with_words": {
        "search": "features",
        "with_tfidf": True,
        "calibrate": "sigmoid",
        "clean": True,
    },
    "many_labels": {"multi_label": True, "with_tfidf": True, "calibrate": "isotonic"},
    "auto": {"recipe": "auto"},
    "auto_many_labels": {"recipe": "auto", "multi_label": True},
    "regression": {"task": "regression", "with_tfidf": True},
    "auto_regression": {"task": "regression", "recipe": "auto"},
    "ordinal": {"task": "ordinal"},
    "columns": {"columns": COLUMNS, "last": "linear"},
    "columns_boosting": {"columns": COLUMNS, "last": "boosting"},
    "columns_regression": {"columns": COLUMNS, "task": "regression", "last": "boosting"},
    "columns_ordinal": {"columns": COLUMNS, "task": "ordinal", "last": "linear"},
}


def table() -> pd.DataFrame:
    """Return the texts with other columns, of which one has many categories."""
    n = range(len(TEXTS))
    return pd.DataFrame(
        {
            "text": TEXTS,
            "price": [None if i == 5 else i % 7 + 0.5 for i in n],
            "shop": ["north" if i % 3 else "south" for i in n],
            "city": [f"city {i}" for i in n],
            "day": [f"2024-{1 + i % 12:02}-{1 + i % 28:02}" for i in n],
        }
    )


def fitted(encoder: str, kind: str) -> BaseEstimator:
    """Return a model of a kind, trained."""
    settings = {"recipe": "plain", "cv": 2, "cache_dir": None, **KINDS[kind]}
    last = settings.pop("last", None)
    X = table() if last else TEXTS
    if "task" in settings:
        y = NUMBERS if settings["task"] == "regression" else STARS
        model = make_text_regressor(encoder, alpha=[1.0, 10.0], **settings).fit(X, y)
    else:
        y = FLAGS if "multi_label" in settings else LABELS
        model = make_text_classifier(encoder, C=[0.01, 0.1], **settings).fit(X, y)
    if last:
        # Out of fold either may be better; each is saved once.
        head = model[-1]
        head.model_ = head._models()[last].fit(head._features(X), y)
    return model


def within_budget(encoder: str) -> BaseEstimator:
    """Return a model that a budget has given characters to."""
    spending.CANDIDATES = (Characters(),)
    model = make_text_classifier(encoder, C=[0.1], cv=2, cache_dir=None, max_length=4)
    with tempfile.TemporaryDirectory() as folder:
        return train(model, TEXTS, LABELS, TEXTS[:4], LABELS[:4], budget="10m", folder=folder).model


def main(only: list[str]) -> None:
    """Train and save the models, or some of them, and write what they predict."""
    encoder = HERE / "encoders" / "tiny"
    if not encoder.is_dir():
        make_encoder(encoder)
    os.chdir(HERE)
    models = {kind: fitted(str(encoder), kind) for kind in only or KINDS if kind in KINDS}
    if not only or "budget" in only:
        models["budget"] = within_budget(str(encoder))
    if not only:
        few = FewShotClassifier(str(encoder), n_experts=2, clean=True)
        models |= {
            f"few_{name}": model for name, model in few.fit(TEXTS, LABELS, POOL).models().items()
        }
        models["few_classifier"] = few
    path = HERE / "expected.json"
    expected = json.loads(path.read_text(encoding="utf-8")) if only else {}
    for name, model in models.items():
        save_model(model, HERE / f"{name}.joblib")
        columns = predict(model, pd.DataFrame(NEW_ROWS) if read_columns(model) else NEW)
        expected[name] = {key: column.tolist() for key, column in columns.items()}
    path.write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
