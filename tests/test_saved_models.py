"""Saved models are a format: those in `tests/saved/` load and predict what they predicted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import InconsistentVersionWarning

from frozenbert import load_model
from frozenbert.pipeline import predict, read_columns

SAVED = Path(__file__).parent / "saved"
EXPECTED = json.loads((SAVED / "expected.json").read_text(encoding="utf-8"))
NEW = ["a good one", "a bad one", "the plot &amp; the scene https://example.org", ""]
NEW_ROWS = [
    {"text": NEW[0], "price": 1.5, "shop": "north", "city": "city 3", "day": "2024-03-01"},
    {"text": NEW[1], "price": None, "shop": "east", "city": "city 50", "day": "2024-03-01 12:00"},
    {"text": NEW[3], "price": -2, "shop": None, "city": None, "day": None},
]


@pytest.mark.parametrize("form", [".joblib", ".skops"])
@pytest.mark.parametrize("name", EXPECTED)
# They were saved once, and scikit-learn goes on.
@pytest.mark.filterwarnings(
    f"ignore::{InconsistentVersionWarning.__module__}.InconsistentVersionWarning"
)
def test_a_saved_model_predicts_what_it_predicted(name, form, monkeypatch):
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(SAVED / "encoders"))
    if name.startswith("columns"):
        pytest.importorskip("skrub")
    model = load_model(SAVED / f"{name}{form}")
    columns = predict(model, pd.DataFrame(NEW_ROWS) if read_columns(model) else NEW)
    assert list(columns) == list(EXPECTED[name])
    for key, column in EXPECTED[name].items():
        if key.startswith("proba_") or columns[key].dtype.kind == "f":
            np.testing.assert_allclose(columns[key], column, atol=1e-5, err_msg=key)
        else:
            assert columns[key].tolist() == column


def test_one_of_each_kind_is_stored():
    kinds = {"plain", "searched_with_words", "many_labels", "auto", "auto_many_labels"}
    few = {"few_experts", "few_teacher", "few_student", "few_student_words", "few_classifier"}
    numbers = {"regression", "auto_regression", "ordinal"}
    columns = {"columns", "columns_boosting", "columns_regression", "columns_ordinal"}
    assert set(EXPECTED) == kinds | few | numbers | columns | {"budget"}
