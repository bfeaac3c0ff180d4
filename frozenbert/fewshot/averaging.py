"""Average the probabilities of several fitted classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from ..errors import InputError

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = ["MeanOfProbabilities"]


class MeanOfProbabilities(ClassifierMixin, BaseEstimator):
    """Classifier that averages the probabilities of classifiers fitted before.

    Unlike scikit-learn's `VotingClassifier` it trains nothing, and it asks each classifier
    once for each prediction.

    Parameters
    ----------
    estimators : list of (str, estimator)
        Fitted classifiers with the same classes, each with a name. Wrap them in scikit-learn's
        `FrozenEstimator` to keep them fitted when this estimator is cloned.

    Attributes
    ----------
    classes_ : numpy.ndarray of shape (n_classes,)
    estimators_ : list of estimator
        The classifiers without their names.

    See Also
    --------
    sklearn.ensemble.VotingClassifier : Trains its classifiers.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> rare = DummyClassifier().fit([""] * 4, ["no", "no", "no", "yes"])
    >>> even = DummyClassifier().fit([""] * 2, ["no", "yes"])
    >>> mean = MeanOfProbabilities([("rare", rare), ("even", even)]).fit()
    >>> mean.predict_proba(["a text"]).tolist()
    [[0.625, 0.375]]
    """

    def __init__(self, estimators: Sequence[tuple[str, BaseEstimator]]) -> None:
        self.estimators = estimators

    @classmethod
    def of(cls, models: dict[str, BaseEstimator]) -> MeanOfProbabilities:
        """Return the average of fitted classifiers, frozen so that clones stay fitted."""
        return cls([(name, FrozenEstimator(model)) for name, model in models.items()]).fit()

    def fit(self, X: object = None, y: object = None) -> MeanOfProbabilities:
        """Check that the classifiers are fitted and have the same classes; nothing is trained.

        Parameters
        ----------
        X, y : ignored

        Returns
        -------
        MeanOfProbabilities
            Itself.

        Raises
        ------
        InputError
            If there are no classifiers, or their classes differ.
        sklearn.exceptions.NotFittedError
            If a classifier is not fitted.
        """
        if not len(self.estimators):
            raise InputError("at least one fitted classifier.", parameter="estimators")
        estimators: list[Any] = [estimator for _, estimator in self.estimators]
        for estimator in estimators:
            check_is_fitted(estimator)
            if not np.array_equal(estimator.classes_, estimators[0].classes_):
                raise InputError(
                    f"the classes differ: {estimators[0].classes_.tolist()} and "
                    f"{estimator.classes_.tolist()}.",
                    parameter="estimators",
                )
        self.estimators_ = estimators
        self.classes_ = np.asarray(estimators[0].classes_)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the mean of the probabilities, shape (n_samples, n_classes)."""
        check_is_fitted(self)
        return np.mean([estimator.predict_proba(X) for estimator in self.estimators_], axis=0)

    def labels_from_proba(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the most probable class of each row, shape (n_samples,)."""
        return self.classes_[np.argmax(probabilities, axis=1)]

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each row, shape (n_samples,)."""
        return self.labels_from_proba(self.predict_proba(X))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = False
        return tags
