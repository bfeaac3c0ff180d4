"""Spend a budget: take one step after another, and keep those that help out of fold."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import FeatureUnion, Pipeline

from ...embed import DistilBertVectorizer
from ...errors import BudgetWarning, InputError, TruncationWarning
from ...heads.search import fitted_grid
from ...heads.stacking import OutOfFoldHead
from ...heads.votes.ladder import Ladder, LadderStep
from ...utils.steps import find_step, find_steps
from ..rows import Rows
from .by_folds.contrastive import ContrastiveTuning
from .by_folds.documents import Documents
from .by_folds.encoders_beside import find_encoders, move_encoders
from .by_folds.tuning import FineTuning
from .candidates import Candidate, Characters, Material, Member
from .clock import Deadline, format_seconds
from .gains import measure_gain, measure_log_loss
from .state import StepsFolder, key_of
from .workers import StepProcess, StoppedError

__all__ = ["Budget", "OnStep", "check_can_spend", "fit_within"]

OnStep = Callable[[LadderStep, float], None]

CANDIDATES: tuple[Candidate, ...] = (
    Characters(),
    Documents(),
    FineTuning(),
    ContrastiveTuning(),
    FineTuning(name="fine-tuning again", seed=1),
)
AUTO = "auto"  # the name of the first step, which is always finished
ALL = "all of these"
TIMED_TEXTS = 32  # by which the time for the test texts is estimated
LAST = 10.0  # seconds that metrics, plots and files take, at least; and the share of the budget
SHARE = 0.03
ESTIMATES = 0.25  # of the time left that an estimate may take


@dataclass(frozen=True)
class Budget:
    """How long a training may take, and where it keeps what is finished.

    Attributes
    ----------
    deadline : Deadline
    folder : pathlib.Path
        The folder of the model.
    unlabelled : list of str
        Texts without labels, none of them a test text.
    on_step : callable or None
        Is called after each step with its row of the ladder, and with the seconds left.
    """

    deadline: Deadline
    folder: Path
    unlabelled: list[str] = field(default_factory=list)
    on_step: OnStep | None = None


def check_can_spend(model: Pipeline) -> None:
    """Raise `InputError` if a budget cannot be spent on a model."""
    if not isinstance(model.named_steps["classify"], OutOfFoldHead):
        raise InputError("needs a classifier of the recipe auto.", parameter="budget")


def fit_within(
    model: Pipeline, rows: Rows, budget: Budget, fit: Callable[[], Any]
) -> tuple[Pipeline, Any]:
    """Fit a model, and spend what is left of a budget on steps that may make it better.

    Parameters
    ----------
    model : sklearn.pipeline.Pipeline
        From `make_text_classifier` with `recipe="auto"`.
    rows : Rows
        Of the test rows only the number is used.
    budget : Budget
    fit : callable
        Fits the model, and returns the training texts' features.

    Returns
    -------
    model : sklearn.pipeline.Pipeline
        Fitted; the given one, or one that votes with the scores of more classifiers.
    features : array or DataFrame, or None
        None if the model had been fitted before a kill.

    Raises
    ------
    InputError
        If the folder is of another training, in use, or cannot be written.

    Warns
    -----
    BudgetWarning
        If fitting alone takes longer than the budget, or a step fails.
    """
    check_can_spend(model)
    steps = StepsFolder(budget.folder)
    with steps.claimed(key_of(model, rows, budget.unlabelled)):
        features = None
        stored = steps.read(AUTO)
        if stored is None:
            started = time.perf_counter()
            features = fit()
            stored = _note_fitted(model, rows, time.perf_counter() - started)
            steps.write(AUTO, stored)
        model, (scores, probabilities), first = stored
        model.named_steps["classify"].set_held_out(scores, probabilities)
        return _Spending(model, rows, budget, steps).run(first), features


def _note_fitted(model: Pipeline, rows: Rows, seconds: float) -> tuple[Pipeline, Any, LadderStep]:
    """Return what is stored of a fitted model: also what saving removes from its head."""
    head = model.named_steps["classify"]
    held_out, probabilities = head.held_out(), head.held_out_proba()
    if probabilities is None:  # nothing was left to decide
        probabilities = head.proba_of_votes(None, rows.truth)
    ladder = Ladder(rows.truth, held_out.splits, fitted_grid(head).scorer_)
    first = ladder.add(AUTO, probabilities, kept=True)
    first["seconds"] = seconds
    return model, (held_out, probabilities), first


class _Spending:
    """The steps of one training.

    Parameters
    ----------
    model : sklearn.pipeline.Pipeline
        Fitted.
    rows : Rows
    budget : Budget
    steps : StepsFolder
    """

    def __init__(self, model: Pipeline, rows: Rows, budget: Budget, steps: StepsFolder) -> None:
        self.model, self.rows, self.budget, self.steps = model, rows, budget, steps
        self.head: OutOfFoldHead = model.named_steps["classify"]
        held_out = self.head.held_out()
        assert held_out is not None
        self.held_out = held_out
        self.scorer = fitted_grid(self.head).scorer_
        self.ladder = Ladder(rows.truth, held_out.splits, self.scorer)
        self.best = self.head.held_out_proba()
        self.kept: dict[str, Member] = {}
        self.others: dict[str, Member] = {}

    def run(self, first: LadderStep) -> Pipeline:
        """Take the steps; return the model that came out."""
        self._report(first)
        if self.left <= 0:
            warnings.warn(
                "the recipe auto alone took longer than the budget: it was finished, and no "
                "further step was taken.",
                BudgetWarning,
                stacklevel=5,
            )
            return self.model
        self.seconds_per_text = self._time_texts()
        with StepProcess() as process:
            for candidate in CANDIDATES:
                self._take(candidate, process)
        if self.others and len(self.kept) + len(self.others) > 1:
            self._judge_all()
        return self._finished()

    @property
    def left(self) -> float:
        return self.budget.deadline.left

    def _report(self, step: LadderStep) -> None:
        if self.budget.on_step is not None:
            self.budget.on_step(step, self.left)

    def _time_texts(self) -> float:
        """Return how many seconds the vectors of a text take that is not in the cache."""
        embed = copy.deepcopy(find_step(self.model, DistilBertVectorizer)).set_params(
            cache_dir=None, progress=False
        )
        rows = np.random.default_rng(0).permutation(len(self.rows.seen))[:TIMED_TEXTS]
        sample = [self.rows.seen[i] for i in rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)
            embed.transform(sample[:1])  # loads the encoder
            started = time.perf_counter()
            embed.transform(sample)
        return (time.perf_counter() - started) / len(sample)

    def _left_for(self, n_encoders: int) -> float:
        """Return how many seconds a step may take; the rest is for test texts and the report.

        Parameters
        ----------
        n_encoders : int
            Encoders that the step adds: if it is kept, they read the test texts, too.
        """
        members = [*self.kept.values(), *self.others.values()]
        n_encoders += sum(
            len(list(find_steps(member.transformer, DistilBertVectorizer))) for member in members
        )
        test_texts = self.seconds_per_text * len(self.rows.test_texts) * (1 + n_encoders)
        return self.left - LAST - SHARE * self.budget.deadline.seconds - test_texts

    def _material(self, name: str) -> Material:
        grid = fitted_grid(self.head)
        seed = getattr(grid.cv, "random_state", 0)
        return Material(
            self.rows.seen,
            self.rows.truth,
            self.held_out.folds,
            grid.scoring if isinstance(grid.scoring, str) else None,
            find_step(self.model, DistilBertVectorizer),
            self.held_out.words is not None,
            self.budget.unlabelled,
            self.steps.scratch(name).absolute(),
            seed if isinstance(seed, int) else 0,
        )

    def _take(self, candidate: Candidate, process: StepProcess) -> None:
        """Train one step, or read what it left before a kill; judge it."""
        name = candidate.name
        member: Member | None = self.steps.read(name)
        if member is None or not find_encoders(member.transformer, self.steps.out):
            note, member = self._train(candidate, process)
            if member is None:
                self.ladder.leave_out(name, note)
                self._report(self.ladder.steps[-1])
                return
            move_encoders(member.transformer, name, self.steps.out)
            self.steps.write(name, member)
            self.steps.remove_scratch(name)
        self._judge(name, member)

    def _train(self, candidate: Candidate, process: StepProcess) -> tuple[str, Member | None]:
        """Train one step if there is time; return why not, and what it brings."""
        material = self._material(candidate.name)
        if reason := candidate.why_not(material):
            return reason, None
        started, n_encoders = time.perf_counter(), candidate.n_encoders
        left = self._left_for(n_encoders)
        if left <= 0:
            return "no time is left", None
        what = "its timed sample took too long"
        try:
            process.call(candidate.why_not, material, limit=left)  # it starts, and imports
            left = self._left_for(n_encoders)
            step, expected = process.call(candidate.sized, material, left, limit=ESTIMATES * left)
            left = self._left_for(n_encoders)
            if expected > left:
                needed, rest = format_seconds(expected), format_seconds(left)
                return f"it would take {needed}, and {rest} are left", None
            what = "the time was up"
            member = process.call(step.run, material, limit=left)
        except StoppedError:
            return f"stopped after {format_seconds(time.perf_counter() - started)}: {what}", None
        except Exception as error:
            process.stop()
            problem = " ".join(str(error).split())[:200] or type(error).__name__
            if not isinstance(error, InputError):
                warnings.warn(
                    f"the step {candidate.name!r} failed ({type(error).__name__}: {problem}); the "
                    f"others go on.",
                    BudgetWarning,
                    stacklevel=7,
                )
            return problem, None
        return "", replace(member, seconds=time.perf_counter() - started)

    def _judge(self, name: str, member: Member) -> None:
        """Keep a step if it makes the vote better by more than chance.

        Its score decides; or, if that is no worse, its log loss, which tells more on few rows.
        """
        scores = [other.scores for other in (*self.kept.values(), member)]
        if self._is_better(name, scores, member.seconds):
            self.kept[name] = member
        else:
            self.others[name] = member

    def _judge_all(self) -> None:
        """Compare the vote of all steps: together, small gains may be more than chance."""
        everything = {**self.kept, **self.others}
        started = time.perf_counter()
        scores = [member.scores for member in everything.values()]
        if self._is_better(ALL, scores, time.perf_counter() - started):
            self.kept, self.others = everything, {}

    def _is_better(self, name: str, scores: Sequence[np.ndarray], seconds: float) -> bool:
        y, best = self.rows.truth, self.best
        assert best is not None
        probabilities = self.head.proba_of_votes(np.hstack(scores), y)
        gain = measure_gain(self.scorer, y, probabilities, best)
        note, is_better = str(gain), gain.is_clear
        if not is_better and gain.difference >= 0:
            log_loss = measure_log_loss(y, probabilities, best)
            is_better = log_loss.is_clear
            note += f"; log loss {log_loss.inverted}"
        step = self.ladder.add(name, probabilities, kept=is_better)
        step["seconds"], step["note"] = seconds, note
        if is_better:
            self.best = probabilities
        self._report(step)
        return is_better

    def _finished(self) -> Pipeline:
        """Return the model with the steps that were kept, and the whole ladder."""
        ladder: list[LadderStep] = [step.copy() for step in getattr(self.head, "ladder_", ())]
        if not self.kept:
            self.head.ladder_ = [*ladder, *self.ladder.steps]
            return self.model
        n_scorers = len(self.kept) + (self.held_out.words is not None)
        scores = np.hstack([member.scores for member in self.kept.values()])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the first fit warned of the same
            head = self.head.with_votes(scores, self.rows.truth, n_scorers)
        names = {step["step"] for step in ladder}
        for step in ladder:
            step["kept"] = step["step"] in ("words", "vectors", "vote of vectors and words")
        last = head.ladder_ if head.decides else []
        again = [s.copy() for s in last if s["step"].startswith(("calibration", "balanced"))]
        head.ladder_ = [*ladder, *self.ladder.steps]
        for step in again:
            if step["step"] in names:
                step["step"] += " of all"
            head.ladder_.append(step)
        if head.held_out_proba() is None or not head.decides:
            assert self.best is not None
            head.set_held_out(head.held_out() or self.held_out, self.best)
        return assemble(self.model, head, self.kept)


def assemble(model: Pipeline, head: OutOfFoldHead, members: dict[str, Member]) -> Pipeline:
    """Return a fitted classifier with more scores beside its vectors and words."""
    more = [(name.replace(" ", "-"), member.transformer) for name, member in members.items()]
    steps = dict(model.steps)
    if "features" in steps:
        union = copy.copy(steps["features"])
        union.transformer_list = [*union.transformer_list, *more]
    else:
        vectors: list[tuple[str, BaseEstimator]] = [(n, steps[n]) for n in ("embed", "scale")]
        # Without a prefix, the names of columns are those that the head was fitted with.
        union = FeatureUnion(
            [("vectors", Pipeline(vectors)), *more], verbose_feature_names_out=False
        )
        if hasattr(steps["embed"], "_sklearn_output_config"):
            union._sklearn_output_config = dict(steps["embed"]._sklearn_output_config)
    clean = [("clean", steps["clean"])] if "clean" in steps else []
    return Pipeline([*clean, ("features", union), ("classify", head)])
