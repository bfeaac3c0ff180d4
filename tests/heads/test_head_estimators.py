"""scikit-learn's own checks of estimators, on the public ones of the heads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
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
    return HeadSearch(estimator or LogisticRegression(max_iter=50), {name: [0.1, 1.0]}, cv=Folds(2))


ESTIMATORS = [SelectVectors(), NBLogisticRegression()]
SEARCHES = [  # slow, as each check fits several folds
    search(),
    StackedSearch(search()),
    make_pipeline(NameColumns(), FeatureSearch(search())),
    make_head(C=[0.1], cv=2, calibrate="sigmoid"),
]

NEGATIVE = "takes no negative columns, and the check's data has some"
IN_PLACE = "a Pipeline fits its steps in place"
EXPECTED = {
    "NBLogisticRegression": {
        "check_class_weight_balanced_linear_classifier": NEGATIVE,
        "check_class_weight_classifiers": NEGATIVE,
        "check_decision_proba_consistency": NEGATIVE,
        "check_sparsify_coefficients": NEGATIVE,
    },
    "Pipeline": {
        "check_dont_overwrite_parameters": IN_PLACE,
        "check_estimators_overwrite_params": IN_PLACE,
    },
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # the checks' data is odd on purpose
@parametrize_with_checks(
    ESTIMATORS, expected_failed_checks=lambda e: EXPECTED.get(type(e).__name__, {})
)
def test_estimators(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # the checks' data is odd on purpose
@parametrize_with_checks(
    SEARCHES, expected_failed_checks=lambda e: EXPECTED.get(type(e).__name__, {})
)
def test_searches(estimator, check):
    check(estimator)


# scikit-learn has no data for texts and many labels: for those, the checks that need none.


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_set_params,
        estimator_checks.check_valid_tag_types,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize(
    "estimator",
    [
        CompactTfidfVectorizer(),
        FeatureSearch(search()),
        MultiLabelClassifier(search("estimator__C", OneVsRestClassifier(LogisticRegression()))),
        WordScores(),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_parameters_and_tags(estimator, check):
    check(type(estimator).__name__, estimator)


def test_tags_tell_the_truth():
    words, labels = WordScores().__sklearn_tags__(), MultiLabelClassifier(search())
    assert words.input_tags.string
    assert not words.input_tags.two_d_array
    with pytest.raises(InputError, match="X has 2 columns: pass the one that holds the texts"):
        WordScores().fit(np.array([["a", "b"]]), [0])
    tags = labels.__sklearn_tags__()
    assert tags.classifier_tags.multi_label
    assert not tags.target_tags.single_output
    with pytest.raises(InputError, match="y: many labels need a column of 0 and 1 for each"):
        labels.fit(np.ones((4, 2)), [0, 1, 0, 1])
