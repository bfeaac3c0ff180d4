"""Steps of a Pipeline at any depth."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from frozenbert.utils.steps import find_step, find_steps


def test_steps_are_found_in_pipelines_unions_and_frozen_estimators() -> None:
    scaler = StandardScaler()
    shared = MaxAbsScaler()
    model = make_pipeline(make_union(scaler, shared), FrozenEstimator(make_pipeline(shared)))
    assert find_step(model, StandardScaler) is scaler
    assert list(find_steps(model, MaxAbsScaler)) == [shared]
    assert list(find_steps(model, FrozenEstimator)) == [model[-1]]
    assert find_step(model, LogisticRegression) is None


def test_steps_are_found_in_the_parts_of_an_ensemble() -> None:
    X, y = np.arange(20.0)[:, None], np.arange(20) % 2
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    model = VotingClassifier([("plain", LogisticRegression()), ("scaled", scaled)]).fit(X, y)
    assert len(list(find_steps(model, StandardScaler))) == 1
    assert len(list(find_steps(model, LogisticRegression))) == 2
