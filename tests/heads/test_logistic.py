"""The heads and the pipeline around them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from frozenbert import DistilBertVectorizer, InputError, make_text_classifier
from frozenbert.heads.logistic import C_VALUES, make_head
from frozenbert.heads.words import make_words_baseline


def correlated(n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised columns that go together, as those of encoders do."""
    X, y = make_classification(
        600,
        120,
        n_informative=20,
        n_redundant=90,
        n_classes=n_classes,
        flip_y=0.2,
        random_state=0,
    )
    return StandardScaler().fit_transform(X).astype(np.float32), y


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_fast_search_scores_like_a_tightly_converged_one(n_classes):
    X, y = correlated(n_classes)
    head = make_head(cv=3).fit(X, y)
    tight = GridSearchCV(
        LogisticRegression(tol=1e-8, max_iter=10_000),
        {"C": C_VALUES},
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
    ).fit(X, y)
    scores = [search.cv_results_["mean_test_score"] for search in (head, tight)]
    np.testing.assert_allclose(*scores, atol=0.01)
    assert head.best_score_ >= tight.best_score_ - 0.004


def test_the_search_can_be_repeated():
    X, y = correlated(2)
    first, again = (make_head(cv=3, random_state=5).fit(X, y) for _ in range(2))
    np.testing.assert_allclose(first.best_estimator_.coef_, again.best_estimator_.coef_, atol=1e-6)
    other = make_head(cv=3, random_state=6).fit(X, y)
    assert first.cv_results_["split0_test_score"].tolist() != (
        other.cv_results_["split0_test_score"].tolist()
    )


@pytest.mark.parametrize(("C", "grid"), [(0.5, [0.5]), ([1, 10], [1.0, 10.0]), (None, [*C_VALUES])])
def test_strengths_to_try(C, grid):
    assert make_head(C=C).param_grid == {"C": grid}


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"C": 0}, "C=0: one or more numbers above 0"),
        ({"C": [1, -1]}, r"C=\[1, -1\]"),
        ({"C": []}, r"C=\[\]"),
        ({"C": float("nan")}, "C=nan"),
        ({"cv": 1}, "cv=1: at least 2 folds"),
    ],
    ids=str,
)
def test_illegal_parameters(parameters, match):
    with pytest.raises(InputError, match=match):
        make_head(**parameters)


def test_a_class_with_fewer_rows_than_folds_gets_a_clear_answer():
    X, y = correlated(2)
    y[:] = [1] * 3 + [0] * (len(y) - 3)
    with pytest.warns(UserWarning, match="least populated class in y has only 3 members"):
        make_head(cv=5, C=1.0).fit(X, y)
    with pytest.raises(ValueError, match="n_splits=5 cannot be greater than the number of members"):
        make_head(cv=5, C=1.0).fit(X[:6], [0, 1] * 3)


def test_the_baseline_reads_words_and_pairs():
    texts = ["not good", "good", "not bad", "bad"] * 10
    baseline = make_words_baseline(cv=2).fit(texts, [0, 1, 1, 0] * 10)
    assert baseline.predict(["not good", "not bad"]).tolist() == [0, 1]


def test_the_pipeline_is_the_promised_one(tiny):
    model = make_text_classifier(tiny, recipe="plain", pooling="mean", cv=3, n_jobs=2)
    assert list(model.named_steps) == ["embed", "scale", "classify"]
    assert isinstance(model["embed"], DistilBertVectorizer)
    assert isinstance(model["scale"], StandardScaler)
    assert isinstance(model["classify"], GridSearchCV)
    assert isinstance(model["classify"].estimator, LogisticRegression)
    assert model.get_params()["embed__pooling"] == "mean"
    assert model["classify"].n_jobs == 2
    plain = make_text_classifier(recipe="plain").get_params()
    assert plain["embed__model_name"] == "distilbert-base-uncased"
