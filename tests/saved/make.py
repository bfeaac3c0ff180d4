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
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from conftest import make_encoder  # noqa: E402

from frozenbert import make_text_classifier, save_model  # noqa: E402
from frozenbert.fewshot import FewShotClassifier  # noqa: E402
from frozenbert.pipeline import predict  # noqa: E402

WORDS = {"good": ("good", "fine", "warm", "funny"), "bad": ("bad", "dull", "slow", "cold")}
THINGS = ("film", "plot", "scene", "actor")
TEXTS = [f"a {WORDS[label][n % 4]} {THINGS[n // 4 % 4]} {n}" for n in range(16) for label in WORDS]
LABELS = [label for _ in range(16) for label in WORDS]
FLAGS = [[int(label == "good"), int(n % 3 == 0)] for n, label in enumerate(LABELS)]
POOL = [f"the {word} {thing} !" for words in WORDS.values() for word in words for thing in THINGS]
NEW = ["a good one", "a bad one", "the plot &amp; the scene https://example.org", ""]

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
}


def main(only: list[str]) -> None:
    """Train and save the models, or some of them, and write what they predict."""
    encoder = HERE / "encoders" / "tiny"
    if not encoder.is_dir():
        make_encoder(encoder)
    os.chdir(HERE)
    models = {}
    for kind in only or KINDS:
        settings = {"recipe": "plain", **KINDS[kind]}
        model = make_text_classifier(str(encoder), C=[0.01, 0.1], cv=2, cache_dir=None, **settings)
        models[kind] = model.fit(TEXTS, FLAGS if "multi_label" in settings else LABELS)
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
        columns = predict(model, NEW)
        expected[name] = {key: column.tolist() for key, column in columns.items()}
    path.write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
