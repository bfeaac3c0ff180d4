"""Experts: classifiers for few labels that differ in what they see."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from ..embed import DistilBertVectorizer
from ..encoders.sources import EncoderFiles
from ..errors import InputError
from ..finetune.encoder_folder import EpochMetrics
from ..finetune.finetuning import finetune
from ..finetune.recipe import Recipe
from ..heads.folds import Folds
from ..heads.selection import SelectVectors, layout
from ..utils.console import progress_bar
from .averaging import MeanOfProbabilities

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Experts", "FineTuning", "View", "bootstrap", "finetune_experts", "views"]

# With a hundred rows, neighbours on a finer grid score alike.
C_VALUES = tuple(float(c) for c in np.logspace(-5, 1, 10))
FINETUNED_C = 0.01

# Layers and poolings.
View: TypeAlias = tuple[tuple[int, ...], tuple[str, ...]]


class Experts(ClassifierMixin, BaseEstimator):
    """Average of logistic regressions on different layers, poolings and rows.

    Each expert sees a bootstrap sample of the rows and one of several sets of columns: the
    last layer, the one below, both, or the upper half; of the poolings, the last or all. Its
    C is chosen by cross-validation within its own rows.

    Parameters
    ----------
    n_experts : int, default=8
        The number of experts.
    bootstrap : bool, default=True
        Whether an expert sees a bootstrap sample of the rows, or all rows.
    cv : int, default=5
        Folds for the choice of C; fewer if a class has fewer rows.
    random_state : int, default=0
        Seed of the samples and the folds.
    n_jobs : int or None, default=None
        Processes, as in scikit-learn.

    Attributes
    ----------
    experts_ : list of sklearn.pipeline.Pipeline
        With the steps `select`, `scale` and `classify`; without `select` if `X` had no columns
        of an encoder.
    classes_ : numpy.ndarray of shape (n_classes,)
    n_features_in_ : int

    Examples
    --------
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> y = np.array(["a", "b"] * 20)
    >>> names = ["layer1_mean_0", "layer2_mean_0"]
    >>> X = pd.DataFrame(rng.normal(size=(40, 2)) + (y == "b")[:, None], columns=names)
    >>> Experts(n_experts=3).fit(X, y).predict_proba(X).shape
    (40, 2)
    """

    def __init__(
        self,
        n_experts: int = 8,
        *,
        bootstrap: bool = True,
        cv: int = 5,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.n_experts = n_experts
        self.bootstrap = bootstrap
        self.cv = cv
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: pd.DataFrame | ArrayLike, y: ArrayLike) -> Experts:
        """Train each expert.

        Parameters
        ----------
        X : pandas.DataFrame of shape (n_samples, n_features)
            With columns such as `layer6_mean_0`. Without such columns, experts differ in their
            rows alone.
        y : array-like of shape (n_samples,)

        Returns
        -------
        Experts
            Itself.

        Raises
        ------
        InputError
            If there are fewer than two classes, or a class has fewer than two rows.
        """
        if self.n_experts < 1:
            raise InputError("at least 1.", parameter="n_experts", value=self.n_experts)
        frame = self._validated(X, reset=True, y=y)
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        self.classes_, counts = np.unique(labels, return_counts=True)
        rare = str(self.classes_[counts.argmin()])
        if len(counts) < 2:
            raise InputError(
                f"experts need two classes, and all rows have one class, {rare!r}.", parameter="y"
            )
        if counts.min() < 2:
            raise InputError(
                f"experts need two rows of each class, and the class {rare!r} has one of "
                f"{len(labels)} rows.",
                parameter="y",
            )
        layers, pooling = layout(frame.columns)
        sets: Sequence[View | None] = views(layers, pooling) if layers else [None]
        chosen = itertools.islice(itertools.cycle(sets), self.n_experts)
        experts = Parallel(n_jobs=self.n_jobs, return_as="generator")(
            delayed(self._fit_one)(frame, labels, view, self.random_state + number)
            for number, view in enumerate(chosen)
        )
        self.experts_ = []
        with progress_bar("auto", self.n_experts, "Experts", "experts") as bar:
            for expert in experts:
                self.experts_.append(expert)
                bar.update()
        return self

    def _validated(self, X: Any, reset: bool, y: Any = "no_validation") -> pd.DataFrame:
        import pandas as pd

        if isinstance(X, pd.DataFrame) and layout(X.columns)[0]:
            validate_data(self, X, y, reset=reset, skip_check_array=True)
            return X
        values = validate_data(self, X, y, reset=reset)
        return pd.DataFrame(values if isinstance(y, str) else values[0])

    def _fit_one(self, X: pd.DataFrame, y: np.ndarray, view: View | None, seed: int) -> Pipeline:
        weights = np.ones(len(y))
        if self.bootstrap:
            weights = bootstrap(y, np.random.default_rng(seed))
        rows = np.flatnonzero(weights)
        steps: list[tuple[str, BaseEstimator]] = [("scale", StandardScaler())]
        if view is not None:
            steps.insert(0, ("select", SelectVectors(*view)))
        features: Any = X.iloc[rows] if view is not None else X.to_numpy()[rows]
        for _, step in steps:
            features = step.fit_transform(features)
        folds = min(self.cv, int(np.unique(y[rows], return_counts=True)[1].min()))
        search = GridSearchCV(
            LogisticRegression(solver="newton-cg", tol=1e-3, max_iter=1000),
            {"C": C_VALUES},
            cv=Folds(folds, shuffle=True, random_state=seed),
            scoring="neg_log_loss",
        )
        # The search hands the weights on to what it searches, also where users route metadata.
        with warnings.catch_warnings(), config_context(enable_metadata_routing=False):
            # With a large C, few rows are separated without an error, and weights grow for ever.
            warnings.simplefilter("ignore", ConvergenceWarning)
            # The line search then fails; its warnings have no public class.
            warnings.filterwarnings("ignore", module=r"sklearn\.utils\.optimize|scipy\.optimize")
            # Each drawn row once with its weight, or copies of a row would be in several folds.
            search.fit(features, y[rows], sample_weight=weights[rows])
        return Pipeline([*steps, ("classify", search.best_estimator_)])

    def predict_proba(self, X: pd.DataFrame | ArrayLike) -> np.ndarray:
        """Return the mean of the experts' probabilities, shape (n_samples, n_classes)."""
        check_is_fitted(self)
        if isinstance(X, np.ndarray):  # columns are selected by position
            values = validate_data(self, X, reset=False)
            return np.mean([expert.predict_proba(values) for expert in self.experts_], axis=0)
        frame = self._validated(X, reset=False)
        seen = frame if "select" in self.experts_[0].named_steps else frame.to_numpy()
        return np.mean([expert.predict_proba(seen) for expert in self.experts_], axis=0)

    def labels_from_proba(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the most probable class of each row, shape (n_samples,)."""
        return self.classes_[np.argmax(probabilities, axis=1)]

    def predict(self, X: pd.DataFrame | ArrayLike) -> np.ndarray:
        """Return the most probable class of each row, shape (n_samples,)."""
        return self.labels_from_proba(self.predict_proba(X))


def views(layers: tuple[int, ...], pooling: tuple[str, ...]) -> list[View]:
    """Return the sets of columns that experts see, the simplest first.

    Examples
    --------
    >>> views((1, 2, 3, 4, 5, 6), ("cls", "mean"))[:3]
    [((6,), ('mean',)), ((4, 5, 6), ('mean',)), ((5,), ('mean',))]
    """
    layers = tuple(x for x in layers if 2 * x > max(layers)) or layers  # the upper half
    of_layers = dict.fromkeys([layers[-1:], layers, layers[-2:-1] or layers, layers[-2:]])
    of_pooling = dict.fromkeys([pooling[-1:], pooling])
    return [(some, how) for how in of_pooling for some in of_layers]


def bootstrap(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return how often each row is drawn with replacement, within each class.

    Parameters
    ----------
    y : numpy.ndarray of shape (n_samples,)
        With at least two rows of each class, of which at least two different ones are drawn.
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of float, shape (n_samples,)
        Their sum in a class is the number of its rows.
    """
    weights = np.zeros(len(y))
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        drawn = rng.choice(rows, len(rows))
        while len(set(drawn.tolist())) < 2:
            drawn = rng.choice(rows, len(rows))
        np.add.at(weights, drawn, 1)
    return weights


@dataclass(frozen=True)
class FineTuning:
    """How encoders are fine-tuned for experts.

    Parameters
    ----------
    files : EncoderFiles
        The encoder to start from.
    folder : pathlib.Path
        Where the encoders go, as `expert-1` and so on.
    recipe : Recipe
    vectorizer : dict
        Parameters of the experts' `DistilBertVectorizer`.
    on_expert : callable, optional
        Is called with each expert's name and metrics.
    """

    files: EncoderFiles
    folder: Path
    recipe: Recipe
    vectorizer: dict[str, Any] = field(default_factory=dict)
    on_expert: Callable[[str, EpochMetrics], None] | None = None


def finetune_experts(
    texts: Sequence[str],
    labels: np.ndarray,
    how: FineTuning,
    *,
    n_experts: int = 8,
    random_state: int = 0,
) -> MeanOfProbabilities:
    """Fine-tune an encoder for each expert, on a bootstrap sample of the texts.

    The epoch is chosen on the texts that were not drawn.

    Parameters
    ----------
    texts : sequence of str
    labels : numpy.ndarray of shape (n_texts,)
    how : FineTuning
    n_experts : int, default=8
    random_state : int, default=0
        Seed of the samples.

    Returns
    -------
    MeanOfProbabilities
        Texts in, the mean of the experts' probabilities out.

    Raises
    ------
    InputError
        As by `frozenbert.finetune.finetuning.finetune`.
    """
    experts = {}
    for number in range(n_experts):
        weights = bootstrap(labels, np.random.default_rng(random_state + number))
        drawn = np.repeat(np.arange(len(labels)), weights.astype(int))
        left = np.flatnonzero(weights == 0)
        left = left if len(left) else drawn
        out = how.folder / f"expert-{number + 1}"
        rows, valid_rows = ([texts[int(i)] for i in places] for places in (drawn, left))
        done = finetune(how.files, rows, labels[drawn], valid_rows, labels[left], out, how.recipe)
        if how.on_expert is not None:
            how.on_expert(out.name, done.metrics)
        head = LogisticRegression(C=FINETUNED_C, solver="newton-cg", tol=1e-3, max_iter=1000)
        embed = DistilBertVectorizer(str(out), **how.vectorizer)
        expert = Pipeline([("embed", embed), ("scale", StandardScaler()), ("classify", head)])
        experts[out.name] = expert.fit(rows, labels[drawn])
    return MeanOfProbabilities.of(experts)
