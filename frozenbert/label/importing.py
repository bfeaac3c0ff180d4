"""Match the labels of a file with the texts of a project."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from ..errors import InputError
from .asking import TextQueue
from .exchange import ImportedLabel
from .store import IMPORTED, Answer

__all__ = ["match_labels"]

MOST_LISTED = 10  # lines of a file that are named in a message


def match_labels(
    imported: Iterable[ImportedLabel],
    queue: TextQueue,
    check: Callable[[Sequence[str] | None], list[str] | None],
    annotator: str | None = None,
) -> list[Answer]:
    """Return an answer for each label of a file whose text its annotator has not answered yet.

    Parameters
    ----------
    imported : iterable of ImportedLabel
    queue : TextQueue
        The texts of the project.
    check : callable
        Returns the labels as the project has them, and raises `InputError` if it has not.
    annotator : str, optional
        Of labels whose file names none.

    Raises
    ------
    InputError
        If a text or a label is unknown. The message names their lines.
    """
    by_text: dict[str, list[str]] = {}
    for item_id, text in zip(queue.ids, queue.texts, strict=True):
        by_text.setdefault(text, []).append(item_id)
    used: Counter[tuple[str, str | None]] = Counter()
    answers: list[Answer] = []
    no_text: list[str] = []
    no_label: list[str] = []
    for one in imported:
        who = one.annotator or annotator
        name = one.id if queue.text_of(one.id or "") is not None else None
        if name is None:  # the first such row is the first occurrence, and so on
            # Without the quote that an export puts before formulas.
            names = by_text.get(one.text) or by_text.get(one.text.removeprefix("'")) or []
            place = used[one.text, who]
            used[one.text, who] += 1
            name = names[min(place, len(names) - 1)] if names else None
        try:
            labels = check(one.labels)
        except InputError:
            no_label.append(one.where)
            continue
        if name is None:
            no_text.append(one.where)
        elif who not in queue.answered.get(name, {}):
            key = f"{name} {who} {labels} {one.answered}"
            answer_id = f"import-{hashlib.sha256(key.encode()).hexdigest()[:24]}"
            text, when = queue.text_of(name) or one.text, one.answered or ""
            answers.append(Answer(answer_id, name, text, labels, who, when, reason=IMPORTED))
    _list_problems(no_text, no_label)
    return answers


def _list_problems(no_text: list[str], no_label: list[str]) -> None:
    problems = [
        f"{_rows(len(places))} {what}: {', '.join(places[:MOST_LISTED])}"
        + (f" and {len(places) - MOST_LISTED:,} more" if len(places) > MOST_LISTED else "")
        for what, places in (
            ("a text that is not in the pool", no_text),
            ("a label that the project does not have", no_label),
        )
        if places
    ]
    if problems:
        raise InputError(f"{'; '.join(problems)}. Nothing was imported.")


def _rows(n: int) -> str:
    return "1 row has" if n == 1 else f"{n:,} rows have"
