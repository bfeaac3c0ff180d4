"""scikit-learn's own checks of estimators, on the public ones of the heads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from frozenbert import InputError
from frozenbert.heads.folds import Folds
from frozenbert.heads.logistic import make_head
from frozenbert.heads.multilabel import MultiLabelClassifier
from frozenbert.heads.search import FeatureSearch, HeadSearch
from frozenbert.heads.selection import SelectVectors
from frozenbert.heads.stacking import StackedSearch
from frozenbert.heads.words import CompactTfidfVectorizer, NBLogisticRegression, WordScores


class NameColumns(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Name the columns of an array as those of an encoder's last layer."""

    def fit(self, X, y=None):
        validate_data(self, X)
        return self

    def transform(self, X):
        check_is_fitted(self, "n_features_in_")
        values = validate_data(self, X, reset=False)
        names = [f"layer1_cls_{i}" for i in range(values.shape[1])]
        return pd.DataFrame(values, columns=names)


def search(name="C", estimator=None):
    return HeadSearch(
        estimator or LogisticRegression(max_iter=50), {name: [0.1, 1.0]}, cv=Folds(2)
    )


ESTIMATORS = [
    SelectVectors(),
    NBLogisticRegression(),
    search(),
    StackedSearch(search()),
    StackedSearch(search(), calibrate="sigmoid"),
    make_pipeline(NameColumns(), FeatureSearch(search())),
    make_head(C=[0.1], cv=2),
]

FEW_ROWS = "folds need two rows of each class, and its data has one"
EXPECTED = {
    "StackedSearch": {},
    "Pipeline": {},
    "HeadSearch": {},
    "NBLogisticRegression": {},
}


@parametrize_with_checks(
    ESTIMATORS, expected_failed_checks=lambda e: EXPECTED.get(type(e).__name__, {})
)
def test_estimators(estimator, check):
    check(estimator)
