"""scikit-learn's own checks of the vectorizer, which skip all but one for estimators of texts.

So the checks see a vectorizer that reads the numbers of a row as a text: all that scikit-learn
asks of parameters, cloning, pickling, fitting again, rows and columns applies to it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike
from sklearn.utils import Tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from frozenbert import DistilBertVectorizer


@pytest.fixture(autouse=True)
def _tiny_by_name(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the vectorizers below, which are made before any fixture, find their encoder."""
    monkeypatch.setenv("FROZENBERT_ENCODERS", str(Path(tiny).parent))


class VectorizerOfNumbers(DistilBertVectorizer):
    """A vectorizer of rows of numbers: each row is written as a text."""

    def fit(self, X: ArrayLike, y: object = None) -> VectorizerOfNumbers:
        texts = self._texts(X, reset=True)
        n_features = self.n_features_in_
        super().fit(texts)
        self.n_features_in_ = n_features
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        return super().transform(self._texts(X, reset=False))

    def fit_transform(self, X: ArrayLike, y: object = None) -> np.ndarray:
        return self.fit(X, y).transform(X)

    def _texts(self, X: ArrayLike, reset: bool) -> list[str]:
        numbers = validate_data(self, X, reset=reset)
        return [" ".join(f"{number:.2f}" for number in row) for row in numbers]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = tags.input_tags.string = False
        return tags


@parametrize_with_checks(
    [
        VectorizerOfNumbers("tiny", cache_dir=None, device="cpu"),
        VectorizerOfNumbers("tiny", layers=(0, 2), pooling=("cls", "mean"), device="cpu"),
    ]
)
def test_as_scikit_learn_asks(estimator: VectorizerOfNumbers, check: Callable[..., None]) -> None:
    check(estimator)
