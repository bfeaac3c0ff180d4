"""`FewShotClassifier`: learn from few labels and many unlabelled texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from ..embed import DistilBertVectorizer
from ..encoders.remote.remote_encoder import is_remote
from ..encoders.sources import EncoderFiles, find_encoder
from ..errors import InputError
from ..finetune.encoder_folder import EpochMetrics
from ..finetune.pairs import PairRecipe, tune_on_pairs
from ..finetune.recipe import Recipe
from ..utils.cleaning import TextCleaner, clean_texts
from ..utils.console import bars, progress_bar
from ..utils.steps import LinkedToDocs
from ..utils.texts import check_texts
from .averaging import MeanOfProbabilities
from .cotraining import CoTraining
from .experts import Experts, FineTuning, finetune_experts
from .pool import check_labelled, remove_known
from .suggestion import suggest

__all__ = ["EXPERT_RECIPE", "MODELS", "FewShotClassifier", "make_expert_vectorizer"]

MODELS = ("experts", "teacher", "student", "student_words")
# Few texts need more passes, in small batches.
EXPERT_RECIPE = Recipe(epochs=8, batch_size=8)
EXPERTS = ("frozen", "contrastive", "finetuned")
TUNED = "tuned"  # the folder of the encoder that all experts share
PAIRS_OF_A_ROW = 40  # contrastive tuning
MOST_PAIRS = 2000
# Settings of the vectorizer that fine-tuned experts share.
SHARED = (
    *("precision", "backend", "device", "num_threads", "max_batch_tokens"),
    *("long_text", "max_length", "cache_dir", "progress"),
)


def make_expert_vectorizer(
    model_name: str = "distilbert-base-uncased", **settings: Any
) -> DistilBertVectorizer:
    """Make a vectorizer whose vectors let experts differ.

    Parameters
    ----------
    model_name : str, default="distilbert-base-uncased"
        The encoder, as for `DistilBertVectorizer`.
    **settings
        Further parameters of `DistilBertVectorizer`. The defaults here are the upper half of
        the encoder's layers, and the poolings "cls" and "mean".

    Returns
    -------
    DistilBertVectorizer
        Not fitted. A remote encoder shows no layers.

    Raises
    ------
    EncoderNotFoundError
        If the encoder cannot be found; its number of layers is needed.

    Examples
    --------
    >>> make_expert_vectorizer("all-MiniLM-L6-v2").layers
    (4, 5, 6)
    """
    if is_remote(model_name):
        return DistilBertVectorizer(model_name, **settings)
    files = find_encoder(
        model_name,
        settings.get("revision"),
        local_files_only=settings.get("local_files_only", False),
    )
    n = files.n_layers
    defaults = {"layers": tuple(range(n // 2 + 1, n + 1)), "pooling": ("cls", "mean")}
    return DistilBertVectorizer(model_name, **{**defaults, **settings})


class FewShotClassifier(LinkedToDocs, ClassifierMixin, BaseEstimator):
    """Classifier for few labelled texts and many unlabelled ones of the same kind.

    Experts learn from the labels. Their mean teaches a student of words on the unlabelled
    texts, and the mean of both teaches it again. The teacher is the mean of the experts and
    that student; it teaches one more student, a single head on the encoder's vectors.

    Parameters
    ----------
    model_name : str, default="distilbert-base-uncased"
        The encoder, as for `DistilBertVectorizer`.
    vectorizer : DistilBertVectorizer or None, default=None
        Computes the vectors, in place of `model_name`. None is `make_expert_vectorizer`: the
        upper half of the layers, with the poolings "cls" and "mean".
    experts : {"frozen", "contrastive", "finetuned"}, default="frozen"
        Heads on the frozen encoder's vectors, heads on those of one encoder that is tuned on
        pairs of the labelled texts (`frozenbert.finetune.pairs`), or a fine-tuned encoder for
        each expert. Pairs help most where texts are single sentences, and take minutes.
    n_experts : int, default=8
        The number of experts.
    folder : path-like or None, default=None
        Where trained encoders go; needed unless experts are frozen.
    recipe : Recipe or None, default=None
        How encoders are fine-tuned; None is 8 epochs with batches of 8 texts. Of contrastive
        tuning only `max_length`, `precision`, `seed` and `device` count.
    predict_with : {"teacher", "student", "student_words", "experts"}, default="teacher"
        The model that predicts. Without unlabelled texts it is the experts.
    clean : bool, default=False
        Whether texts are cleaned by `frozenbert.utils.cleaning.clean_texts` first.
    random_state : int, default=0
        Seed of the experts' samples and folds.
    n_jobs : int or None, default=None
        Processes for the experts, as in scikit-learn.

    Attributes
    ----------
    experts_ : estimator
        Texts in, the mean of the experts' probabilities out.
    teacher_ : estimator
        The mean of `experts_` and `student_words_`; without unlabelled texts, the experts.
    student_ : sklearn.pipeline.Pipeline
        One head on the encoder's vectors. Only with unlabelled texts.
    student_words_ : sklearn.pipeline.Pipeline
        TF-IDF and logistic regression, which need no encoder. Only with unlabelled texts.
    classes_ : numpy.ndarray of shape (n_classes,)
    pool_rows_ : numpy.ndarray of int, shape (n_pool,)
        The distinct unlabelled texts that are not labelled, by their place in `unlabelled`.
    pool_probabilities_ : numpy.ndarray of shape (n_pool, n_classes)
        The teacher's probabilities of these texts.

    See Also
    --------
    frozenbert.make_text_classifier : For more labels.

    Examples
    --------
    >>> texts = ["a stirring film", "what a delight", "a dull film", "what a bore"] * 2
    >>> labels = ["good", "good", "bad", "bad"] * 2
    >>> pool = ["a stirring delight", "a dull bore", "such a delight", "such a bore"]
    >>> few = FewShotClassifier("all-MiniLM-L6-v2", n_experts=2).fit(texts, labels, pool)
    >>> few.predict(["a delight", "a bore"]).tolist()
    ['good', 'bad']
    >>> len(few.suggest(2))
    2
    """

    _doc_page = "frozenbert.FewShotClassifier"

    def __init__(
        self,
        model_name: str = "distilbert-base-uncased",
        *,
        vectorizer: DistilBertVectorizer | None = None,
        experts: str = "frozen",
        n_experts: int = 8,
        folder: str | Path | None = None,
        recipe: Recipe | None = None,
        predict_with: str = "teacher",
        clean: bool = False,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.model_name = model_name
        self.vectorizer = vectorizer
        self.experts = experts
        self.n_experts = n_experts
        self.folder = folder
        self.recipe = recipe
        self.predict_with = predict_with
        self.clean = clean
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(
        self,
        X: Sequence[str],
        y: ArrayLike,
        unlabelled: Sequence[str] | None = None,
        *,
        on_expert: Callable[[str, EpochMetrics], None] | None = None,
    ) -> FewShotClassifier:
        """Train the experts, and the students on unlabelled texts.

        Parameters
        ----------
        X : sequence of str
            The labelled texts.
        y : array-like of shape (n_texts,)
            Their classes.
        unlabelled : sequence of str, optional
            The pool. Repeated texts count once; those that are labelled are removed with a
            `PoolWarning`. Remove test texts before (`frozenbert.fewshot.pool.remove_known`).
            Without it there are no students, and the experts predict.
        on_expert : callable, optional
            Is called with the name and metrics of each fine-tuned expert.

        Returns
        -------
        FewShotClassifier
            Itself.

        Raises
        ------
        InputError
            If a parameter is illegal, a class has fewer than two texts, or no unlabelled text
            remains.
        EncoderNotFoundError
            If the encoder cannot be found.
        """
        self._check_parameters(unlabelled)
        texts = self._texts(X)
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        check_labelled(texts, labels)
        for name in ("student_", "student_words_", "pool_probabilities_", "pool_rows_", "_vectors"):
            self.__dict__.pop(name, None)
        pool = None if unlabelled is None else self._pool(texts, unlabelled)
        base = self.vectorizer
        base = make_expert_vectorizer(self.model_name) if base is None else clone(base)
        if self.experts == "contrastive":
            base = self._tune(texts, labels, base)
        fitted_on = (texts, labels) if pool is None else (pool,)
        embed = base.set_output(transform="pandas").fit(*fitted_on)
        with bars(embed.progress):
            self._fit(texts, labels, pool, embed, on_expert)
        return self

    def _fit(
        self,
        texts: list[str],
        labels: np.ndarray,
        pool: list[str] | None,
        embed: DistilBertVectorizer,
        on_expert: Callable[[str, EpochMetrics], None] | None,
    ) -> None:
        vectors = embed.transform(texts)
        if self.experts == "finetuned":
            experts = self._finetune(texts, labels, embed, on_expert)
        else:
            head = Experts(self.n_experts, random_state=self.random_state, n_jobs=self.n_jobs)
            experts = Pipeline([("embed", embed), ("classify", head.fit(vectors, labels))])
        self.classes_ = np.unique(labels)
        self.experts_ = self.teacher_ = self._cleaning(experts)
        if pool is not None:
            self._teach(texts, labels, pool, embed, vectors, experts)

    def _check_parameters(self, unlabelled: object) -> None:
        for name, value, legal in (
            ("experts", self.experts, EXPERTS),
            ("predict_with", self.predict_with, MODELS),
        ):
            if value not in legal:
                allowed = ", ".join(map(repr, legal))
                raise InputError(f"one of {allowed}.", parameter=name, value=value)
        if self.n_experts < 1:
            raise InputError("at least 1.", parameter="n_experts", value=self.n_experts)
        if self.experts != "frozen" and self.folder is None:
            raise InputError(
                "name a folder for the trained encoders.", parameter="folder", value=None
            )
        if unlabelled is None and self.predict_with.startswith("student"):
            raise InputError(
                "students need unlabelled texts.", parameter="predict_with", value=self.predict_with
            )

    def _texts(self, X: Sequence[str]) -> list[str]:
        return clean_texts(X) if self.clean else check_texts(X, missing="error")

    def _pool(self, texts: list[str], unlabelled: Sequence[str]) -> list[str]:
        """Return the distinct unlabelled texts that are not labelled, and note their places."""
        given = check_texts(unlabelled, missing="error")
        places = dict(zip(reversed(given), reversed(range(len(given))), strict=True))
        distinct = sorted(places, key=places.__getitem__)
        kept = remove_known(distinct, texts, clean=self.clean)
        if not kept:
            raise InputError(
                "no text that is not labelled already: there is nothing to teach students with.",
                parameter="unlabelled",
            )
        self.pool_rows_ = np.array([places[text] for text in kept])
        return self._texts(kept)

    def _tune(
        self, texts: list[str], labels: np.ndarray, embed: DistilBertVectorizer
    ) -> DistilBertVectorizer:
        """Tune an encoder on pairs; return its vectorizer, with the settings of the given one."""
        assert self.folder is not None  # was checked
        recipe = self._recipe(embed)
        pairs = PairRecipe(
            min(PAIRS_OF_A_ROW * len(texts), MOST_PAIRS),
            max_length=recipe.max_length,
            precision=recipe.precision,
            seed=recipe.seed + self.random_state,
            device=recipe.device or embed.device,
        )
        out = Path(self.folder) / TUNED
        files = _find_encoder(embed)
        tune_on_pairs(files, texts, labels, out, pairs, progress=embed.progress)
        # What was tuned has no prompt, and no revision.
        return clone(embed).set_params(model_name=str(out), prompt="", revision=None)

    def _finetune(
        self,
        texts: list[str],
        labels: np.ndarray,
        embed: DistilBertVectorizer,
        on_expert: Callable[[str, EpochMetrics], None] | None,
    ) -> MeanOfProbabilities:
        assert self.folder is not None  # was checked
        shared = {name: value for name, value in embed.get_params().items() if name in SHARED}
        recipe, files = self._recipe(embed), _find_encoder(embed)
        how = FineTuning(files, Path(self.folder), recipe, shared, on_expert)
        return finetune_experts(
            texts, labels, how, n_experts=self.n_experts, random_state=self.random_state
        )

    def _recipe(self, embed: DistilBertVectorizer) -> Recipe:
        return self.recipe or replace(EXPERT_RECIPE, max_length=embed.max_length)

    def _teach(
        self,
        texts: list[str],
        labels: np.ndarray,
        pool: list[str],
        embed: DistilBertVectorizer,
        vectors: Any,
        experts: Any,
    ) -> None:
        """Train the students on the pool."""
        pool_vectors = embed.transform(pool)
        head = experts[-1] if isinstance(experts, Pipeline) else None
        probabilities = head.predict_proba(pool_vectors) if head else experts.predict_proba(pool)
        training = CoTraining(labels)
        with progress_bar("auto", 2, "Students", "students") as bar:
            words, self.pool_probabilities_ = training.teach_words(texts, pool, probabilities)
            bar.update()
            student = training.teach_vectors(embed, vectors, pool_vectors, self.pool_probabilities_)
            bar.update()
        self._vectors = student.pool_vectors
        teacher = MeanOfProbabilities.of({"experts": experts, "words": words})
        self.teacher_ = self._cleaning(teacher)
        self.student_ = self._cleaning(student.model)
        self.student_words_ = self._cleaning(words)

    def _cleaning(self, model: Any) -> Any:
        """Return the model behind a step that cleans, if texts are cleaned."""
        if not self.clean:
            return model
        return Pipeline([("clean", TextCleaner()), ("classify", model)])

    def models(self) -> dict[str, Any]:
        """Return the fitted models by name: "experts" and, with a pool, those taught on it.

        Returns
        -------
        dict of str to estimator
            "experts", "teacher", "student" and "student_words"; without unlabelled texts
            "experts" alone. Each takes texts, and can be saved with `save_model`.
        """
        check_is_fitted(self)
        names = MODELS if hasattr(self, "student_") else MODELS[:1]
        return {name: getattr(self, f"{name}_") for name in names}

    def predict_proba(self, X: Sequence[str]) -> np.ndarray:
        """Return probabilities, shape (n_texts, n_classes), in the order of `classes_`."""
        models = self.models()
        return np.asarray(models.get(self.predict_with, self.experts_).predict_proba(X))

    def labels_from_proba(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the most probable class of each row, shape (n_texts,)."""
        return self.classes_[np.argmax(probabilities, axis=1)]

    def predict(self, X: Sequence[str]) -> np.ndarray:
        """Return the most probable class of each text, shape (n_texts,)."""
        return self.labels_from_proba(self.predict_proba(X))

    def suggest(self, n: int, random_state: int = 0) -> np.ndarray:
        """Return which unlabelled texts to label next.

        Parameters
        ----------
        n : int
        random_state : int, default=0

        Returns
        -------
        numpy.ndarray of int, shape (min(n, n_pool),)
            Places in `unlabelled`, as `fit` got it, the most uncertain text first.

        Raises
        ------
        InputError
            If `n` is not at least 1, or the classifier has no pool: it was fitted without
            unlabelled texts, or loaded from a file.
        """
        check_is_fitted(self)
        if not hasattr(self, "_vectors"):
            raise InputError(
                "the classifier has no pool: fit it with unlabelled texts (a saved one is without)."
            )
        chosen = suggest(self._vectors, self.pool_probabilities_, n, random_state)
        return self.pool_rows_[chosen]

    def _prepare_to_save(self) -> None:
        """Remove paths and the pool; `save_model` calls this on the copy that it saves."""
        for name in ("pool_rows_", "pool_probabilities_", "_vectors"):
            self.__dict__.pop(name, None)
        if Path(self.model_name).is_dir():
            self.model_name = Path(self.model_name).name
        self.folder = None if self.folder is None else Path(self.folder).name

    def _note_loaded_from(self, folder: Path) -> None:
        """Do nothing: the vectorizers look for their encoders themselves."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        return tags


def _find_encoder(embed: DistilBertVectorizer) -> EncoderFiles:
    return find_encoder(embed.model_name, embed.revision, local_files_only=embed.local_files_only)
