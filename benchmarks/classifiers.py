"""The classifiers that `accuracy.py` compares: how each is trained and asked.

Each takes a `Job` and returns an `Answer`: the predictions for the test rows. All that learn from
vectors use the same encoder, as it is packaged. To add a row for frozenbert, add a line to `WAYS`.
"""

from __future__ import annotations

import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from real import Split
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV, train_test_split
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import Pipeline

from frozenbert import make_text_classifier
from frozenbert.encoders.sources import PACKAGED_ENCODER
from frozenbert.fewshot import FewShotClassifier
from frozenbert.fewshot.classifier import make_expert_vectorizer
from frozenbert.fewshot.pool import remove_known
from frozenbert.heads.words import NBLogisticRegression, WordScores, make_words_baseline
from frozenbert.training import train

N_DRAWS = 3
C_VALUES = np.logspace(-1, 3, 9)
# Named, so that these rows stay what they are if defaults change.
PLAIN: dict[str, Any] = {
    "recipe": "plain",
    "search": "head",
    "with_tfidf": False,
    "calibrate": None,
    "class_weight": None,
    "cv": 5,
    "scoring": None,
}
SETFIT_BATCH = 16
SETFIT_ROWS = 10_000  # SetFit lists all pairs of rows in memory before it draws from them


@dataclass(frozen=True)
class Job:
    """What a classifier is trained on and asked, and with what."""

    split: Split
    encoder: str  # the folder of the packaged encoder
    scratch: Path  # an empty folder
    cache: Path | None  # frozenbert's stored vectors; None computes all of them
    seconds: float  # at most, for SetFit

    @property
    def many_labels(self) -> bool:
        """Whether a text has any number of labels."""
        return self.split.y.ndim == 2


@dataclass
class Answer:
    """The predictions of each draw of training rows, and what is worth knowing of them."""

    predictions: list[np.ndarray]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """A row of the table."""

    title: str
    run: Callable[[Job], Answer]
    ours: bool = False
    per_class: int | None = None  # training rows of each class; None is all
    many_labels: bool = True


def words(job: Job) -> Answer:
    """TF-IDF of words and pairs, logistic regression; C and thresholds by cross-validation."""
    model = make_words_baseline(multi_label=job.many_labels, n_jobs=-1)
    return _fitted(model, job)


def weighted_words(job: Job) -> Answer:
    """Words weighted as in naive Bayes; C and thresholds by cross-validation."""
    scores = WordScores(multi_label=job.many_labels, n_jobs=-1).fit(job.split.texts, job.split.y)
    model, best = scores.words_, scores.best_params_
    if job.many_labels:
        each = NBLogisticRegression(
            C=best["estimator__C"], solver="newton-cg", tol=1e-4, max_iter=1000
        )
        tuned = OneVsRestClassifier(TunedThresholdClassifierCV(each, scoring="f1", n_jobs=-1))
        model = Pipeline([("tfidf", model["tfidf"]), ("classify", tuned)])
        model.fit(job.split.texts, job.split.y)
    return Answer([model.predict(job.split.test_texts)], {"best": best})


def fasttext(job: Job) -> Answer:
    """Train fastText's supervised mode; rate and epochs by a tenth of the rows."""
    import fasttext as library

    texts = [_tokenized(text) for text in job.split.texts]
    y = job.split.y
    loss = "ova" if job.many_labels else "softmax"

    def train(rows: np.ndarray, **settings: Any) -> Any:
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            file.writelines(f"{_fasttext_labels(y[i])} {texts[i]}\n" for i in rows)
            file.flush()
            # One thread: with several, each training gives another model.
            return library.train_supervised(
                file.name, wordNgrams=2, loss=loss, thread=1, seed=0, verbose=0, **settings
            )

    def ask(model: Any, texts: Sequence[str]) -> np.ndarray:
        if job.many_labels:
            found, _ = model.predict(list(texts), k=-1, threshold=0.5)
            flags = np.zeros((len(texts), y.shape[1]), dtype=int)
            for row, names in zip(flags, found, strict=True):
                row[[int(name.removeprefix("__label__")) for name in names]] = 1
            return flags
        found, _ = model.predict(list(texts))
        return np.array([int(names[0].removeprefix("__label__")) for names in found])

    fit, held = train_test_split(
        np.arange(len(y)), test_size=0.1, stratify=None if job.many_labels else y, random_state=0
    )
    grid = [{"lr": lr, "epoch": epoch} for lr in (0.1, 0.5, 1.0) for epoch in (5, 25)]
    right = []
    for settings in grid:
        found = ask(train(fit, **settings), [texts[i] for i in held])
        right.append(float(np.mean(found == y[held])))
    best = grid[int(np.argmax(right))]
    model = train(np.arange(len(y)), **best)
    return Answer([ask(model, [_tokenized(t) for t in job.split.test_texts])], {"best": best})


def _tokenized(text: str) -> str:
    """Separate words and signs by spaces, in lower case, as fastText's guide does."""
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))


def _fasttext_labels(label: Any) -> str:
    codes = np.flatnonzero(label) if np.ndim(label) else [label]
    return " ".join(f"__label__{code}" for code in codes)


def sentence_transformers(job: Job) -> Answer:
    """Encode with sentence-transformers, fit a logistic regression; C by cross-validation."""
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(job.encoder, device="cpu")
    known, asked = (
        encoder.encode(texts, show_progress_bar=False)
        for texts in (job.split.texts, job.split.test_texts)
    )
    if job.many_labels:
        each = LogisticRegression(C=10.0, max_iter=1000)
        model = OneVsRestClassifier(TunedThresholdClassifierCV(each, scoring="f1", n_jobs=-1))
        return Answer([model.fit(known, job.split.y).predict(asked)])
    search = GridSearchCV(LogisticRegression(max_iter=1000), {"C": C_VALUES}, n_jobs=-1)
    search.fit(known, job.split.y)
    return Answer([search.predict(asked)], {"best": search.best_params_})


def skrub(job: Job, *, linear: bool = False) -> Answer:
    """Fit skrub's `tabular_pipeline` with its `TextEncoder`.

    As in its documentation: 30 components, gradient boosting. With `linear`, all components and a
    logistic regression whose C is searched.
    """
    import pandas as pd
    from skrub import LLMEncoder, tabular_pipeline  # LLMEncoder was TextEncoder before 0.11

    encoder = LLMEncoder(job.encoder, device="cpu", n_components=None if linear else 30)
    estimator: Any = HistGradientBoostingClassifier(random_state=0)
    if linear:
        estimator = LogisticRegression(max_iter=1000)
        if not job.many_labels:
            estimator = GridSearchCV(estimator, {"C": C_VALUES / 10}, n_jobs=-1)
    if job.many_labels:
        estimator = MultiOutputClassifier(estimator)
    model = tabular_pipeline(estimator).set_params(tablevectorizer__high_cardinality=encoder)
    known, asked = (pd.DataFrame({"text": t}) for t in (job.split.texts, job.split.test_texts))
    return Answer([model.fit(known, job.split.y).predict(asked)])


def setfit(job: Job, *, per_class: int | None = None) -> Answer:
    """Fine-tune on pairs with SetFit: one epoch of all pairs, or as many as time allows."""
    draws = [*_draws(job, per_class)]
    many = {"multi_target_strategy": "one-vs-rest"} if job.many_labels else {}
    predictions, steps = [], []
    for seed, rows in draws:
        begun = time.perf_counter()
        pace = _setfit(job, rows, seed, many, max_steps=8)[1]
        needed = _setfit_steps(job.split.y[rows])
        # Encoding the rows and the test rows takes about a third of a step per batch of pairs.
        after = (len(rows) + len(job.split.test_texts)) / (2 * SETFIT_BATCH) / 2 * pace
        left = job.seconds / len(draws) - (time.perf_counter() - begun) - after
        allowed = max(1, int(0.95 * left / pace))
        model, _ = _setfit(job, rows, seed, many, max_steps=-1 if needed <= allowed else allowed)
        predictions.append(np.asarray(model.predict(job.split.test_texts)).astype(int))
        steps.append(min(needed, allowed))
    facts = {"steps": steps, "steps_of_one_epoch": needed, "rows": len(rows)}
    return Answer(predictions, facts)


def _setfit(
    job: Job, rows: np.ndarray, seed: int, many: dict[str, Any], *, max_steps: int
) -> tuple[Any, float]:
    """Train; return the model and the seconds of a step."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    texts = [job.split.texts[i] for i in rows]
    data = Dataset.from_dict({"text": texts, "label": job.split.y[rows].tolist()})
    with tempfile.TemporaryDirectory() as scratch:
        settings = TrainingArguments(
            output_dir=scratch,
            batch_size=SETFIT_BATCH,
            num_epochs=1,
            max_steps=max_steps,
            seed=seed,
            report_to="none",
            save_strategy="no",
            show_progress_bar=False,
        )
        model = SetFitModel.from_pretrained(
            job.encoder, device="cpu", local_files_only=True, **many
        )
        trainer = Trainer(model=model, args=settings, train_dataset=data, callbacks=[Clock()])
        trainer.train()
    return model, statistics.median(np.diff(ends)) if len(ends) > 1 else 0.0


def _setfit_steps(y: np.ndarray) -> int:
    """Return the steps of an epoch: as many like pairs as unlike ones, the rarer ones repeated."""
    flags = y if y.ndim == 2 else np.eye(y.max() + 1, dtype=int)[y]
    kinds, counts = np.unique(flags, axis=0, return_counts=True)
    like = kinds @ kinds.T > 0
    n_like = int((counts @ like @ counts + counts @ like.diagonal()) // 2)
    n_unlike = len(y) * (len(y) + 1) // 2 - n_like
    return -(-2 * max(n_like, n_unlike) // SETFIT_BATCH)


def ours(job: Job, **settings: Any) -> Answer:
    """Fit frozenbert's classifier with these parameters."""
    model = make_text_classifier(
        PACKAGED_ENCODER,
        multi_label=job.many_labels,
        cache_dir=job.cache or job.scratch,
        progress=False,
        n_jobs=-1,
        **settings,
    )
    answer = _fitted(model, job)
    answer.facts["best"] = getattr(model[-1], "best_params_", None)
    return answer


def with_budget(job: Job, *, budget: str) -> Answer:
    """Train frozenbert's classifier with a budget of time."""
    split = job.split
    model = make_text_classifier(
        PACKAGED_ENCODER,
        multi_label=job.many_labels,
        cache_dir=job.cache or job.scratch / "vectors",
        progress=False,
        n_jobs=-1,
    )
    rows = (split.texts, split.y, split.test_texts, split.test_y)
    trained = train(model, *rows, budget=budget, folder=job.scratch / "model").model
    ladder = [
        {name: step.get(name) for name in ("step", "score", "kept", "seconds", "note")}
        for step in trained[-1].ladder_
    ]
    return Answer([trained.predict(split.test_texts)], {"ladder": ladder})


def experts(job: Job, *, per_class: int, kind: str = "frozen", pool: bool = False) -> Answer:
    """Fit frozenbert's experts for few labels; with `pool`, the other rows are unlabelled texts."""
    predictions = []
    for seed, rows in _draws(job, per_class):
        # A folder of its own, so that each draw computes all its vectors, as SetFit does.
        cache = job.cache or job.scratch / str(seed)
        vectorizer = make_expert_vectorizer(PACKAGED_ENCODER, cache_dir=cache, progress=False)
        model = FewShotClassifier(
            vectorizer=vectorizer,
            experts=kind,
            folder=job.scratch / f"encoders-{seed}",
            random_state=seed,
            n_jobs=-1,
        )
        texts = [job.split.texts[i] for i in rows]
        unlabelled = remove_known(job.split.texts, [*texts, *job.split.test_texts])
        model.fit(texts, job.split.y[rows], unlabelled if pool else None)
        predictions.append(model.predict(job.split.test_texts))
    return Answer(predictions)


def _draws(job: Job, per_class: int | None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield seeds and rows: so many of each class, drawn three times; or once all that fit."""
    y = job.split.y
    if per_class is None:
        yield 0, np.sort(np.random.default_rng(0).permutation(len(y))[:SETFIT_ROWS])
        return
    flags = y if y.ndim == 2 else np.eye(y.max() + 1, dtype=int)[y]
    for seed in range(N_DRAWS):
        rng = np.random.default_rng(seed)
        drawn = [rng.permutation(np.flatnonzero(flag))[:per_class] for flag in flags.T]
        yield seed, np.unique(np.concatenate(drawn))


def _fitted(model: Any, job: Job) -> Answer:
    model.fit(job.split.texts, job.split.y)
    return Answer([model.predict(job.split.test_texts)])


def _few(title: str, function: Callable[..., Answer], prefix: str, **facts: Any) -> dict[str, Way]:
    """Return a row for each number of rows a class."""
    return {
        f"{prefix}-{n}": Way(
            f"{title}, {n} rows a class", partial(function, per_class=n), per_class=n, **facts
        )
        for n in (8, 16, 64)
    }


WAYS: dict[str, Way] = {
    "tfidf": Way("TF-IDF, logistic regression", words),
    "nb": Way("words weighted as in naive Bayes, logistic regression", weighted_words),
    "fasttext": Way("fastText, supervised", fasttext),
    "st": Way("sentence-transformers, logistic regression", sentence_transformers),
    "skrub": Way("skrub: `TextEncoder` in `tabular_pipeline`", skrub),
    "skrub-linear": Way(
        "skrub: `TextEncoder` with all components, logistic regression", partial(skrub, linear=True)
    ),
    "setfit-all": Way("SetFit, all rows that fit 30 minutes", setfit),
    "auto": Way("frozenbert", partial(ours, recipe="auto"), ours=True),
    "budget-15m": Way("frozenbert, `--budget 15m`", partial(with_budget, budget="15m"), ours=True),
    "budget-2h": Way("frozenbert, `--budget 2h`", partial(with_budget, budget="2h"), ours=True),
    "plain": Way("frozenbert, plain", partial(ours, **PLAIN), ours=True),
    "searched": Way(
        "frozenbert, `--search features --with-tfidf`",
        partial(ours, **{**PLAIN, "search": "features", "with_tfidf": True}),
        ours=True,
    ),
    **_few("SetFit", setfit, "setfit"),
    **_few("frozenbert, experts", experts, "experts", ours=True, many_labels=False),
    **_few(
        "frozenbert, `--experts contrastive`",
        partial(experts, kind="contrastive"),
        "contrastive",
        ours=True,
        many_labels=False,
    ),
    **_few(
        "frozenbert, `--experts contrastive` and the pool",
        partial(experts, kind="contrastive", pool=True),
        "contrastive-pool",
        ours=True,
        many_labels=False,
    ),
    **_few(
        "frozenbert, experts and the pool",
        partial(experts, pool=True),
        "pool",
        ours=True,
        many_labels=False,
    ),
}
