"""Compare explanations of single answers by the deletion test.

    python benchmarks/explain.py [--only sst2,tweets] [--texts 100] [--rows 2000]

A classifier is trained on the first rows of each data set, with words and vectors. For each of the
test texts, a method orders the words by how much they speak for the answer. Then the words are
deleted in that order, one after the other, and the fall of the answer's probability is averaged
over the first ten deletions: the area over the perturbation curve (AOPC). Higher is better. The
rows are those of $FROZENBERT_TEXTS. Needs shap.
"""

from __future__ import annotations

import itertools
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import real
from report import write_figures

from frozenbert import make_text_classifier
from frozenbert.cli.arguments import Parser, positive
from frozenbert.embed import DistilBertVectorizer
from frozenbert.encoders.sources import PACKAGED_ENCODER
from frozenbert.heads.selection import predict_from_arrays
from frozenbert.heads.words import WordScores
from frozenbert.utils.steps import find_step, find_steps

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / "artifacts" / "cache"
DELETIONS = 10
DATA = {"sst2": "sst2-6920", "tweets": "tweets"}
SEED = 0

# From a text's mask, one row a variant (True: the word stays), to the answer's probabilities.
Ask = Callable[[np.ndarray], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurements; return the exit code."""
    parser = Parser(prog="explain.py", description="Compare explanations by deletion.")
    parser.add_argument("--only", default="sst2,tweets", help="of sst2, tweets")
    parser.add_argument("--texts", type=positive, default=100, help="labelled texts of each data")
    parser.add_argument("--rows", type=positive, default=2000, help="training rows")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args(arguments)
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(DATA):
        parser.error(f"--only {sorted(unknown)[0]}: of {', '.join(DATA)}")
    folder = real.texts_folder("explain.py")
    warnings.simplefilter("ignore")
    report, path = real.new_report("explain", options.out, model=PACKAGED_ENCODER)
    for name in chosen:
        task = real.TASKS[DATA[name]]
        split = task.load(folder)
        model = make_text_classifier(PACKAGED_ENCODER, with_tfidf=True, cache_dir=CACHE)
        model.fit(split.texts[: options.rows], split.y[: options.rows])
        predict_from_arrays(model)
        for embed in find_steps(model, DistilBertVectorizer):
            embed.set_params(cache_dir=None, progress=False)
        rows = np.random.default_rng(SEED).permutation(len(split.test_texts))
        texts = [split.test_texts[i] for i in rows]
        texts = [text for text in texts if 3 <= len(text.split()) <= 64][: options.texts]
        for number, text in enumerate(texts):
            report["rows"] += [{"data": name, "text": number, **row} for row in _try(model, text)]
            if number % 20 == 19:
                print(f"  {name}: {number + 1} of {len(texts)}", file=sys.stderr)
                write_figures(report, path)
    write_figures(report, path)
    print(to_markdown(report))
    print(f"\nWritten: {path}")
    return 0


class Asked:
    """Ask a model for the probability of its answer to a text, with some words left out."""

    def __init__(self, model: Any, text: str) -> None:
        self.model = model
        self.words = text.split()
        self.known: dict[tuple[bool, ...], np.ndarray] = {}
        whole = self._ask(np.ones((1, len(self.words)), dtype=bool))[0]
        self.place = int(whole.argmax())
        self.n_asked = 0

    def __call__(self, masks: np.ndarray) -> np.ndarray:
        """Return the probability of the answer for each row of words that stay."""
        self.n_asked += len(masks)
        return self._ask(np.asarray(masks, dtype=bool))[:, self.place]

    def _ask(self, masks: np.ndarray) -> np.ndarray:
        keys = [tuple(mask) for mask in masks.tolist()]
        new = [key for key in dict.fromkeys(keys) if key not in self.known]
        for start in range(0, len(new), 512):
            some = new[start : start + 512]
            texts = [" ".join(itertools.compress(self.words, key)) for key in some]
            self.known |= dict(zip(some, self.model.predict_proba(texts), strict=True))
        return np.stack([self.known[key] for key in keys])


def _try(model: Any, text: str) -> list[dict[str, Any]]:
    ask = Asked(model, text)
    n = len(ask.words)
    rows = []
    for method, weigh in METHODS.items():
        ask.n_asked, begun = 0, time.perf_counter()
        weights = weigh(ask, model)
        found = {"method": method, "n_words": n, "n_asked": ask.n_asked}
        found["seconds"] = time.perf_counter() - begun
        order = np.argsort(-weights, kind="stable")
        masks = np.ones((min(DELETIONS, n) + 1, n), dtype=bool)
        for k, place in enumerate(order[:DELETIONS]):
            masks[k + 1 :, place] = False
        p = ask(masks)
        rows.append({**found, "curve": p.round(5).tolist(), "aopc": float(np.mean(p[0] - p[1:]))})
    return rows


def at_random(ask: Asked, model: Any) -> np.ndarray:
    """Return weights that know nothing."""
    return np.random.default_rng(SEED).random(len(ask.words))


def one_by_one(ask: Asked, model: Any) -> np.ndarray:
    """Return how much the probability falls without each word."""
    n = len(ask.words)
    p = ask(np.vstack([np.ones((1, n), dtype=bool), ~np.eye(n, dtype=bool)]))
    return p[0] - p[1:]


def spans(longest: int, *, rest: bool = False) -> Callable[..., np.ndarray]:
    """Return a method: the mean fall, for each word, without the spans that contain it.

    With `rest`, the words are weighed by what remains if nothing but the span stays, too.
    """

    def weigh(ask: Asked, model: Any) -> np.ndarray:
        n = len(ask.words)
        masks, owners = [np.ones(n, dtype=bool)], []
        for size in range(1, min(longest, n) + 1):
            for start in range(n - size + 1):
                mask = np.ones(n, dtype=bool)
                mask[start : start + size] = False
                masks.append(mask)
                owners.append(~mask)
        p = ask(np.array(masks))
        falls, owned = p[0] - p[1:], np.array(owners)
        if rest:
            nothing, *alone = ask(np.vstack([np.zeros((1, n)), owned]))
            falls = (falls + np.array(alone) - nothing) / 2
        shares = owned / owned.sum(axis=1, keepdims=True)
        return (falls @ shares) / owned.sum(axis=0)

    return weigh


def of_words(ask: Asked, model: Any) -> np.ndarray:
    """Return the weights of the words' own classifier; those of pairs count half for each word."""
    steps = find_step(model, WordScores).words_
    tfidf, coef = steps["tfidf"], steps["classify"].best_estimator_.coef_
    coef = coef[ask.place] if len(coef) > 1 else coef[0] * (1 if ask.place else -1)
    row = tfidf.transform([" ".join(ask.words)])
    terms = tfidf.get_feature_names_out()[row.indices]
    effect = dict(zip(terms, row.data * coef[row.indices], strict=True))
    tokens = [
        (place, token.lower())
        for place, word in enumerate(ask.words)
        for token in re.findall(r"(?u)\b\w+\b", word)
    ]
    weights = np.zeros(len(ask.words))
    for place, token in tokens:
        weights[place] += effect.get(token, 0)
    for (place, token), (other, following) in itertools.pairwise(tokens):
        pair = effect.get(f"{token} {following}", 0)
        weights[place] += pair / 2
        weights[other] += pair / 2
    return weights


def shapley(permutations: int) -> Callable[..., np.ndarray]:
    """Return a method: Shapley values by shap's sampling of permutations, each in both ways."""

    def weigh(ask: Asked, model: Any) -> np.ndarray:
        import shap

        n = len(ask.words)

        def masked(mask: np.ndarray, row: np.ndarray) -> np.ndarray:
            return np.asarray(mask, dtype=float)[np.newaxis]

        explainer = shap.explainers.Permutation(lambda masks: ask(masks > 0.5), masked, seed=SEED)
        found = explainer(np.ones((1, n)), max_evals=permutations * (2 * n + 1), silent=True)
        return np.asarray(found.values[0])

    return weigh


METHODS: dict[str, Callable[..., np.ndarray]] = {
    "words in random order": at_random,
    "leave one word out": one_by_one,
    "spans up to 3 words": spans(3),
    "spans up to 5 words": spans(5),
    "spans up to 5 words, out and alone": spans(5, rest=True),
    "the word vote's own weights": of_words,
    "Shapley values (shap), 2 permutations": shapley(2),
    "Shapley values (shap), 5 permutations": shapley(5),
}


def to_markdown(report: dict[str, Any]) -> str:
    """Return a table of the methods, with paired intervals of the difference to the best one."""
    lines = []
    for data in dict.fromkeys(row["data"] for row in report["rows"]):
        rows = [row for row in report["rows"] if row["data"] == data]
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            found.setdefault(row["method"], []).append(row)
        aopc = {name: np.array([row["aopc"] for row in of]) for name, of in found.items()}
        best = max(aopc, key=lambda name: aopc[name].mean())
        n = len(aopc[best])
        lines += [
            f"{data}, {n} texts",
            "",
            "| method | AOPC | behind the best (95 %) | texts asked for a text |",
            "|---|--:|--:|--:|",
        ]
        draws = np.random.default_rng(SEED).integers(0, n, (2000, n))
        for name, of in found.items():
            behind = (aopc[best] - aopc[name])[draws].mean(axis=1)
            low, high = np.quantile(behind, [0.025, 0.975])
            gap = "" if name == best else f"{low:.3f} to {high:.3f}"
            asked = np.mean([row["n_asked"] for row in of])
            lines.append(f"| {name} | {aopc[name].mean():.3f} | {gap} | {asked:.0f} |")
        lines.append("")
    return "\n".join([*lines, real.measured(report)])


if __name__ == "__main__":
    sys.exit(main())
