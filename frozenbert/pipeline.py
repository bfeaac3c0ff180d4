"""Text classifiers as scikit-learn estimators: built, fitted and asked."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from .embed import DistilBertVectorizer
from .encoders.remote.remote_encoder import is_remote
from .encoders.sources import find_encoder
from .errors import InputError
from .finetune.encoder_folder import EpochMetrics
from .finetune.finetuning import finetune
from .finetune.recipe import Recipe
from .heads.columns.joint import JointClassifier, JointModel, JointOrdinal, JointRegressor
from .heads.columns.kinds import ColumnSpec, parse_columns
from .heads.folds import CV
from .heads.logistic import Head, check_choice, check_targets, make_head
from .heads.multilabel import MultiLabelClassifier
from .heads.numeric.ordinal import OrdinalHead
from .heads.numeric.ridge import RidgeHead, describe_numeric_head, parse_alphas
from .heads.numeric.tasks import TASKS, score_function
from .heads.numeric.word_regression import WordPredictions
from .heads.scoring import ClassWeight, is_auto
from .heads.votes.summary import describe_head
from .heads.words import WordScores
from .utils.cleaning import TextCleaner
from .utils.console import bars
from .utils.steps import LinkedToDocs, find_step, find_steps, shorten_numbers
from .utils.texts import check_texts

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = [
    "FineTunedClassifier",
    "Summary",
    "TextPipeline",
    "column_names",
    "make_text_classifier",
    "make_text_regressor",
    "predict",
    "read_columns",
]


class Summary(str):
    """Text that a console and a notebook show as it is."""

    def __repr__(self) -> str:
        return str(self)


class TextPipeline(LinkedToDocs, Pipeline):
    """`Pipeline` of texts that checks labels before it encodes, and sums up what it chose.

    Its parameters and attributes are those of `sklearn.pipeline.Pipeline`.

    Examples
    --------
    >>> model = make_text_classifier("all-MiniLM-L6-v2", cache_dir=None)
    >>> model.fit(["a stirring film", "a dull film"], ["good", "good"])
    Traceback (most recent call last):
    frozenbert.errors.InputError: y: there is only one class ('good'), and a classifier needs two.
    """

    _doc_page = "frozenbert.make_text_classifier"

    def fit(self, X: Any, y: Any = None, **params: Any) -> TextPipeline:
        """Check the labels, and fit all steps.

        Parameters
        ----------
        X : sequence of str
        y : array-like of shape (n_texts,) or (n_texts, n_labels)
        **params
            As in scikit-learn: `groups`, if metadata routing is enabled.

        Returns
        -------
        TextPipeline
            Itself.

        Raises
        ------
        InputError
            If a text is missing, or a classifier cannot be fitted on these labels.
        """
        if isinstance(self[-1], Head) and hasattr(X, "__len__") and not isinstance(X, str):
            check_targets(self[-1], y, len(X))
        embed = find_step(self, DistilBertVectorizer)
        with bars("auto" if embed is None else embed.progress):
            super().fit(X, y, **params)
        return self

    def summary(self) -> Summary:
        """Return what the fitted classifier computes and chose, in one screen.

        Returns
        -------
        Summary
            A string: the encoder, layers and pooling, C, and the out-of-fold scores of the
            training rows, those of words alone among them.

        Examples
        --------
        >>> texts = ["a stirring film", "what a delight", "a dull film", "what a bore"] * 3
        >>> model = make_text_classifier("all-MiniLM-L6-v2", recipe="plain", cache_dir=None, cv=2)
        >>> model.fit(texts, ["good", "good", "bad", "bad"] * 3).summary()
        encoder      all-MiniLM-L6-v2 (package): layer 6, pooling mean, at most 512 tokens, float32
        head         logistic regression, C = ...: accuracy 1.0000 ± 0.0000 in 2 folds
        classes      2: 'bad', 'good'
        """
        check_is_fitted(self)
        head = self[-1]
        embeds = map(_describe_encoder, find_steps(self, DistilBertVectorizer))
        describe = describe_head if isinstance(head, Head) else describe_numeric_head
        lines = {"encoder": "\n".join(embeds), **describe(head)}
        if hasattr(head, "classes_"):
            classes = [repr(str(label)[:40]) for label in head.classes_]
            more = f" and {len(classes) - 10} more" if len(classes) > 10 else ""
            lines["classes"] = f"{len(classes)}: {', '.join(classes[:10])}{more}"
        shown = (
            f"{title:11}  " + text.replace("\n", "\n" + " " * 13) for title, text in lines.items()
        )
        return Summary("\n".join(shown))

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:  # noqa: N803  # scikit-learn's name
        # scikit-learn breaks lines for estimators with its own `__repr__` only. Abridged first, so
        # that it cuts nothing else.
        shown = shorten_numbers(Pipeline(self.steps).__repr__(100 * N_CHAR_MAX))
        own = type(self).__name__
        first, *others = shown.splitlines()
        more = " " * (len(own) - len("Pipeline"))
        return "\n".join([own + first.removeprefix("Pipeline"), *(more + line for line in others)])

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        bundle: dict[str, str] = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            shown = hasattr(self[-1], "ladder_") or hasattr(self[-1], "classes_")
            # Not every page with a notebook's outputs has a style for `pre`.
            style = ' style="font-family: monospace"'
            summary = f"<pre{style}>{html.escape(self.summary())}</pre>" if shown else ""
            bundle["text/html"] = summary + shorten_numbers(bundle["text/html"])
        return bundle


def _describe_encoder(embed: DistilBertVectorizer) -> str:
    layers = f" {', '.join(map(str, embed.layers_))}"
    if len(embed.layers_) > 2:
        layers = f"s {embed.layers_[0]} to {embed.layers_[-1]}"
    return (
        f"{embed.encoder_name_} ({embed.encoder_source_}): layer{layers}, pooling "
        f"{' and '.join(embed.pooling_)}, at most {embed.max_length_} tokens, {embed.precision_}"
    )


def make_text_classifier(
    model_name: str = "distilbert-base-uncased",
    *,
    recipe: str = "auto",
    search: str = "auto",
    with_tfidf: bool | str = "auto",
    clean: bool = False,
    multi_label: bool = False,
    calibrate: str | None = "auto",
    class_weight: ClassWeight = "auto",
    C: Sequence[float] | float | None = None,
    cv: CV | None = "auto",
    scoring: str | None = "auto",
    random_state: int | None = 0,
    n_jobs: int | None = None,
    columns: ColumnSpec | None = None,
    **vectorizer: Any,
) -> Pipeline:
    """Make the whole classifier: texts in, labels out.

    Parameters
    ----------
    model_name : str, default="distilbert-base-uncased"
        The encoder, as for `DistilBertVectorizer`.
    recipe : {"auto", "plain"}, default="auto"
        What decides the parameters below that are "auto": the training rows, by out-of-fold
        scores; or nothing ("plain"): "head", False, None, None, 5 and None.
    search : {"auto", "head", "features"}, default="auto"
        What cross-validation chooses: C; or layers, pooling and C together ("auto"). For
        "features" the vectorizer computes all layers, with the poolings "cls" and "mean".
    with_tfidf : bool or "auto", default="auto"
        Whether to add scores of words to the vectors, by `frozenbert.heads.words.WordScores`.
        "auto" uses the best of vectors, words and both.
    clean : bool, default=False
        Whether texts are cleaned by `frozenbert.utils.cleaning.clean_texts` first.
    multi_label : bool, default=False
        Whether a text may have any number of labels: `y` is then a column of 0 and 1 for each.
    calibrate, class_weight, C, cv, scoring, random_state, n_jobs
        As for `frozenbert.heads.logistic.make_head`.
    columns : dict, "all" or None, default=None
        Names of columns by their kind: "text", "number", "category" and "date". The model then
        reads DataFrames. "all" finds the kinds; None is a model of texts alone.
    **vectorizer
        Further parameters of `DistilBertVectorizer`.

    Returns
    -------
    sklearn.pipeline.Pipeline
        With the steps `embed`, `scale` and `classify`; with words `features` (a FeatureUnion of
        `vectors`, which are the first two, and `words`) and `classify`. With `clean`, the first
        step is `clean`; with `columns` the only one is `classify`, whose `ladder_` tells more.

    Examples
    --------
    >>> model = make_text_classifier("all-MiniLM-L6-v2", recipe="plain", cache_dir=None, cv=2)
    >>> texts = ["a stirring film", "what a delight", "a dull film", "what a bore"]
    >>> model.fit(texts, ["good", "good", "bad", "bad"]).predict(["so boring"]).tolist()
    ['bad']
    """
    check_choice("recipe", recipe, ("auto", "plain"))
    plain = recipe == "plain"
    if is_auto(search):
        search = "head" if plain or is_remote(model_name) else "features"
    with_tfidf = False if plain and is_auto(with_tfidf) else with_tfidf
    calibrate = None if plain and is_auto(calibrate) else calibrate
    if search == "features":
        vectorizer = {"layers": "all", "pooling": ("cls", "mean"), **vectorizer}
    class_weight = None if plain and is_auto(class_weight) else class_weight
    cv = 5 if plain and is_auto(cv) else cv
    shared: dict[str, Any] = {"cv": cv, "multi_label": multi_label, "class_weight": class_weight}
    shared["scoring"] = None if plain and is_auto(scoring) else scoring
    shared |= {"random_state": random_state, "n_jobs": n_jobs}
    head = make_head(C=C, search=search, with_words=with_tfidf, calibrate=calibrate, **shared)
    missing = vectorizer.get("missing", "error")
    words = WordScores(missing=missing, **shared) if with_tfidf else None
    embed = DistilBertVectorizer(model_name, **vectorizer)
    model = _assemble(embed, head, words, frames=search == "features", clean=clean)
    if columns is not None and multi_label:
        raise InputError("cannot be combined with columns.", parameter="multi_label", value=True)
    return _with_columns(model, columns, JointClassifier, cv, scoring, random_state)


def make_text_regressor(
    model_name: str = "distilbert-base-uncased",
    *,
    task: str = "regression",
    recipe: str = "auto",
    search: str = "auto",
    with_tfidf: bool | str = "auto",
    clean: bool = False,
    alpha: Sequence[float] | float | None = None,
    cv: CV | None = "auto",
    scoring: str | None = "auto",
    random_state: int | None = 0,
    columns: ColumnSpec | None = None,
    **vectorizer: Any,
) -> Pipeline:
    """Make a whole model of numbers or grades: texts in, numbers out.

    Parameters
    ----------
    model_name : str, default="distilbert-base-uncased"
        The encoder, as for `DistilBertVectorizer`.
    task : {"regression", "ordinal"}, default="regression"
        "ordinal" predicts one of the grades of the training rows, and the probability of each.
    recipe : {"auto", "plain"}, default="auto"
        What "auto" means below; with "plain" it is "head" and False.
    search : {"auto", "head", "features"}, default="auto"
        What cross-validation chooses: the strength; or layers and pooling, too ("auto").
    with_tfidf : bool or "auto", default="auto"
        Whether to add the predictions of words to those of vectors; "auto": if they help.
    clean, columns
        As for `make_text_classifier`.
    alpha : sequence of float, float or None, default=None
        Strengths of regularisation to try; None tries 13 from 1 to 1e6.
    cv : int, "auto", splitter or iterable of splits, default="auto"
        "auto" makes 5 folds, and 3 of more than 20,000 rows.
    scoring : str or None, default="auto"
        The score that decides: "r2", "mae" or "spearman"; of grades "kappa_and_mae" (the mean of
        quadratic kappa and of the share of the absolute error that is saved against always
        answering the median), "quadratic_kappa", "mae" or "accuracy". "auto" is the first.
    random_state : int or None, default=0
        Shuffles the folds.
    **vectorizer
        Further parameters of `DistilBertVectorizer`.

    Returns
    -------
    sklearn.pipeline.Pipeline
        As from `make_text_classifier`, with the last step `regress`.

    Examples
    --------
    >>> model = make_text_regressor("all-MiniLM-L6-v2", recipe="plain", cache_dir=None, cv=2)
    >>> texts = ["a stirring film", "what a delight", "a dull film", "what a bore"]
    >>> model.fit(texts, [3.5, 3.0, -2.0, -3.5]).predict(["so boring"]) < 0
    array([ True])
    """
    check_choice("task", task, TASKS[2:])
    check_choice("recipe", recipe, ("auto", "plain"))
    check_choice("search", search, ("auto", "head", "features"))
    score_function(task, scoring)
    plain = recipe == "plain"
    if is_auto(search):
        search = "head" if plain or is_remote(model_name) else "features"
    with_tfidf = False if plain and is_auto(with_tfidf) else with_tfidf
    if search == "features":
        vectorizer = {"layers": "all", "pooling": ("cls", "mean"), **vectorizer}
    score = scoring if task == "regression" else None
    head: RidgeHead | OrdinalHead = RidgeHead(
        alpha=parse_alphas(alpha), search=search, with_words=with_tfidf, scoring=score
    ).set_params(cv=cv, random_state=random_state)
    if task == "ordinal" and columns is None:
        head = OrdinalHead(head, scoring=scoring)
    missing = vectorizer.get("missing", "error")
    words = None
    if with_tfidf:
        words = WordPredictions(cv=cv, random_state=random_state, missing=missing)
    embed = DistilBertVectorizer(model_name, **vectorizer)
    model = _assemble(embed, head, words, frames=search == "features", clean=clean)
    kind = JointOrdinal if task == "ordinal" else JointRegressor
    return _with_columns(model, columns, kind, cv, scoring, random_state)


def _with_columns(
    model: Pipeline,
    columns: ColumnSpec | None,
    kind: type[JointModel],
    cv: CV | None,
    scoring: str | None,
    random_state: int | None,
) -> Pipeline:
    """Return a model of texts as it is, or as a part of one that reads other columns, too."""
    if columns is None:
        return model
    parse_columns(columns)
    joint = kind(model, columns, cv=cv, scoring=scoring, random_state=random_state)
    return TextPipeline([(model.steps[-1][0], joint)])


def _assemble(
    embed: DistilBertVectorizer,
    head: Head | LogisticRegression | RidgeHead | OrdinalHead,
    words: WordScores | WordPredictions | None,
    *,
    frames: bool,
    clean: bool,
) -> Pipeline:
    """Put the steps together; with `frames` they hand on DataFrames."""
    last = "regress" if isinstance(head, RidgeHead | OrdinalHead) else "classify"
    # It scales column by column, so once before layers are chosen is the same as after.
    steps: list[tuple[str, BaseEstimator]] = [("embed", embed), ("scale", StandardScaler())]
    if words is not None:
        union = FeatureUnion([("vectors", Pipeline(steps)), ("words", words)])
        steps = [("features", union)]
    model = TextPipeline([*steps, (last, head)])
    if frames:
        model.set_output(transform="pandas")  # columns' names tell layers and poolings
        if words is not None:
            # From frames alone, FeatureUnion would store their Index, which has no safe form.
            words.set_output(transform="default")
    if clean:
        model.steps.insert(0, ("clean", TextCleaner(embed.missing)))
    return model


def predict(model: BaseEstimator, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Return labels and probabilities from one pass over the texts, as columns.

    Parameters
    ----------
    model : estimator
        A fitted Pipeline, or another classifier of texts. A classifier whose labels follow from
        its probabilities can say so by a method `labels_from_proba`, and is asked once.
    texts : sequence of str

    Returns
    -------
    dict of str to numpy.ndarray, each of shape (n_texts,)
        `prediction` and, if the model has probabilities, `proba_LABEL` for each class.
        With many labels `prediction_LABEL` (0 or 1) and `proba_LABEL` for each.
    """
    features: Any = texts
    last: Any = model
    while isinstance(last, Pipeline):
        if len(last.steps) > 1:
            features = last[:-1].transform(features)
        last = last[-1]
    probabilities = None
    if hasattr(last, "labels_from_proba"):
        probabilities = np.asarray(last.predict_proba(features))
        labels = np.asarray(last.labels_from_proba(probabilities))
    else:
        labels = np.asarray(last.predict(features))
        if hasattr(last, "predict_proba"):
            probabilities = np.asarray(last.predict_proba(features))
    columns: dict[str, np.ndarray] = {"prediction": labels}
    if labels.ndim == 2:
        names = column_names(last)
        columns = dict(zip(names[: labels.shape[1]], labels.T, strict=True))
    if probabilities is not None:
        named = zip(last.classes_, probabilities.T, strict=True)
        columns |= {f"proba_{label}": column for label, column in named}
    return columns


def read_columns(model: BaseEstimator) -> list[str]:
    """Return the names of the columns that a fitted model reads; none if it reads texts alone.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> read_columns(DummyClassifier().fit(["a text"] * 2, ["no", "yes"]))
    []
    """
    joint = find_step(model, JointModel)
    return [] if joint is None else list(joint.reader_.names)


def column_names(model: BaseEstimator) -> list[str]:
    """Return the names of the columns that `predict` returns, as far as the model tells.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> column_names(DummyClassifier().fit(["a text"] * 2, ["no", "yes"]))
    ['prediction', 'proba_no', 'proba_yes']
    """
    classes = getattr(model, "classes_", ())
    many = find_step(model, MultiLabelClassifier) is not None
    answers = [f"prediction_{label}" for label in classes] if many else ["prediction"]
    probabilities = classes if hasattr(model, "predict_proba") else ()
    return [*answers, *(f"proba_{label}" for label in probabilities)]


class FineTunedClassifier(LinkedToDocs, ClassifierMixin, BaseEstimator):
    """Classifier that fine-tunes an encoder, and fits a head on its vectors.

    The fine-tuned encoder is written to `folder`. The head is a logistic regression on the
    standardised vectors of the encoder, which is frozen from then on.

    Parameters
    ----------
    model_name : str, default="distilbert-base-uncased"
        The encoder to start from, as for `DistilBertVectorizer`.
    folder : path-like or None, default=None
        Where the fine-tuned encoder goes; needed to fit. A call that was killed resumes, and
        one that is repeated with the same texts and parameters trains nothing.
    revision : str or None, default=None
        Branch, tag or commit on the hub.
    epochs, keep_epoch, lr, head_lr, dropout, weight_decay, batch_size, \
gradient_accumulation_steps, early_stopping, max_length, pooling, freeze_layers, precision, device
        As for `frozenbert.finetune.Recipe`.
    validation_fraction : float, default=0.1
        Share of the texts that select the best epoch, if `fit` is not given other ones.
    C : float, default=0.01
        Inverse regularisation strength of the head.
    clean : bool, default=False
        Whether texts are cleaned by `frozenbert.utils.cleaning.clean_texts` first.
    cache_dir : str, path-like or None, default="auto"
        Folder for the vectors, as for `DistilBertVectorizer`.
    local_files_only : bool, default=False
        Never ask the hub.
    progress : {"auto", True, False}, default="auto"
        Whether to show a progress bar while training; "auto" shows it in a terminal or a
        notebook.
    random_state : int, default=0
        Seed of the training and of the choice of validation texts.

    Attributes
    ----------
    pipeline_ : sklearn.pipeline.Pipeline
        With the steps `embed`, `scale` and `classify`; `clean` comes first, if asked for.
    classes_ : numpy.ndarray of shape (n_classes,)
    metrics_ : EpochMetrics
        Of the selected epoch, on the validation texts.
    history_ : list of EpochMetrics
        Of each epoch.

    See Also
    --------
    frozenbert.make_text_classifier : Keeps the encoder frozen, and is far faster.
    frozenbert.finetune.finetune : The encoder alone; also for many labels and probabilities.

    Examples
    --------
    >>> import tempfile
    >>> texts = ["a stirring film", "what a delight", "a dull film", "what a bore"] * 5
    >>> labels = ["good", "good", "bad", "bad"] * 5
    >>> folder = Path(tempfile.mkdtemp()) / "tuned"
    >>> tuned = FineTunedClassifier("all-MiniLM-L6-v2", folder, epochs=1, cache_dir=None)
    >>> tuned.fit(texts, labels).predict(["a delight", "a bore"]).tolist()
    ['good', 'bad']
    """

    _doc_page = "frozenbert.FineTunedClassifier"

    def __init__(
        self,
        model_name: str = "distilbert-base-uncased",
        folder: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        epochs: int = 4,
        keep_epoch: str = "best",
        lr: float = 5e-5,
        head_lr: float = 1e-3,
        dropout: float = 0.1,
        weight_decay: float = 0.01,
        batch_size: int = 16,
        gradient_accumulation_steps: int = 1,
        early_stopping: int | None = None,
        max_length: int | None = None,
        pooling: str | tuple[str, ...] = "auto",
        freeze_layers: int = 0,
        precision: str = "auto",
        device: str | None = None,
        validation_fraction: float = 0.1,
        C: float = 0.01,
        clean: bool = False,
        cache_dir: str | os.PathLike[str] | None = "auto",
        local_files_only: bool = False,
        progress: bool | Literal["auto"] = "auto",
        random_state: int = 0,
    ) -> None:
        self.model_name = model_name
        self.folder = folder
        self.revision = revision
        self.epochs = epochs
        self.keep_epoch = keep_epoch
        self.lr = lr
        self.head_lr = head_lr
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.early_stopping = early_stopping
        self.max_length = max_length
        self.pooling = pooling
        self.freeze_layers = freeze_layers
        self.precision = precision
        self.device = device
        self.validation_fraction = validation_fraction
        self.C = C
        self.clean = clean
        self.cache_dir = cache_dir
        self.local_files_only = local_files_only
        self.progress = progress
        self.random_state = random_state

    def fit(
        self,
        X: Sequence[str],
        y: ArrayLike,
        X_valid: Sequence[str] | None = None,
        y_valid: ArrayLike | None = None,
        *,
        on_epoch: Callable[[EpochMetrics], None] | None = None,
    ) -> FineTunedClassifier:
        """Fine-tune the encoder, and fit the head on its vectors of `X`.

        Parameters
        ----------
        X : sequence of str
        y : array-like of shape (n_texts,)
        X_valid : sequence of str, optional
            Texts that select the best epoch; by default a stratified part of `X`.
        y_valid : array-like of shape (n_valid,), optional
        on_epoch : callable, optional
            Is called with each epoch's metrics.

        Returns
        -------
        FineTunedClassifier
            Itself.

        Raises
        ------
        InputError
            If a parameter is illegal, `folder` is in use, or classes are missing or too small.
        EncoderNotFoundError
            If the encoder cannot be found.
        """
        if self.folder is None:
            raise InputError(
                "name a folder for the fine-tuned encoder.", parameter="folder", value=None
            )
        texts, labels = check_texts(X, missing="error"), self._labels(y)
        if len(texts) != len(labels):
            raise InputError(f"{len(labels):,} labels for {len(texts):,} texts.", parameter="y")
        if (X_valid is None) != (y_valid is None):
            raise InputError("give both X_valid and y_valid, or neither.", parameter="X_valid")
        if X_valid is None or y_valid is None:
            parts = self._split(texts, labels)
        else:
            parts = (texts, labels, check_texts(X_valid, missing="error"), self._labels(y_valid))
        files = find_encoder(self.model_name, self.revision, local_files_only=self.local_files_only)
        done = finetune(
            files,
            *parts,
            self.folder,
            self._recipe(),
            clean=self.clean,
            on_epoch=on_epoch,
            progress=self.progress,
        )
        self.metrics_, self.history_ = done.metrics, done.history
        embed = DistilBertVectorizer(
            str(self.folder),
            max_length=self.max_length,
            device=self.device,
            cache_dir=self.cache_dir,
            local_files_only=self.local_files_only,
        )
        head = LogisticRegression(C=self.C, solver="newton-cg", tol=1e-3, max_iter=1000)
        pipeline = _assemble(embed, head, None, frames=False, clean=self.clean)
        self.pipeline_ = pipeline.fit(texts, labels)
        self.classes_ = self.pipeline_.classes_
        return self

    def _labels(self, y: ArrayLike) -> np.ndarray:
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        return labels

    def _recipe(self) -> Recipe:
        fields = {
            name: getattr(self, name) for name in Recipe.__dataclass_fields__ if name != "seed"
        }
        return Recipe(**fields, seed=self.random_state)

    def _split(
        self, texts: list[str], labels: np.ndarray
    ) -> tuple[list[str], np.ndarray, list[str], np.ndarray]:
        """Split off validation texts; each class has at least one on either side."""
        share = self.validation_fraction
        if not 0 < share < 1:
            raise InputError("above 0 and below 1.", parameter="validation_fraction", value=share)
        classes, counts = np.unique(labels, return_counts=True)
        n_valid = max(round(share * len(labels)), len(classes))
        if len(classes) < 2 or counts.min() < 2 or n_valid > len(labels) - len(classes):
            rare = str(classes[counts.argmin()])[:80]
            raise InputError(
                f"at least two classes with two texts each are needed, and the class {rare!r} has "
                f"{counts.min()} of {len(labels)}.",
                parameter="y",
            )
        train, valid, y_train, y_valid = train_test_split(
            texts, labels, test_size=n_valid, stratify=labels, random_state=self.random_state
        )
        return train, y_train, valid, y_valid

    def predict_proba(self, X: Sequence[str]) -> np.ndarray:
        """Return probabilities, shape (n_texts, n_classes), in the order of `classes_`."""
        check_is_fitted(self)
        return np.asarray(self.pipeline_.predict_proba(X))

    def labels_from_proba(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the most probable class of each row, shape (n_texts,)."""
        return np.asarray(self.classes_[np.argmax(probabilities, axis=1)])

    def predict(self, X: Sequence[str]) -> np.ndarray:
        """Return the most probable class of each text, shape (n_texts,)."""
        return self.labels_from_proba(self.predict_proba(X))

    def _prepare_to_save(self) -> None:
        """Remove paths; `save_model` calls this on the copy that it saves."""
        if Path(self.model_name).is_dir():
            self.model_name = Path(self.model_name).name
        self.folder = None if self.folder is None else Path(self.folder).name
        self.cache_dir = None

    def _note_loaded_from(self, folder: Path) -> None:
        """Do nothing: the vectorizer looks for its encoder itself."""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags
