"""What a project keeps: its labels, its encoder and its seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ..errors import InputError
from .store import Store

__all__ = ["ProjectFacts", "check_labels", "settle_facts"]

MIN_LABELS, MAX_LABELS = 2, 200
MOST_LISTED = 10  # labels that are named in a message


def check_labels(labels: Sequence[str]) -> list[str]:
    """Return the labels' names, with single spaces.

    Raises
    ------
    InputError
        Unless there are 2 to 200, not empty, that differ by more than case and spaces.

    Examples
    --------
    >>> check_labels(["good ", "bad"])
    ['good', 'bad']
    """
    names = _distinct(labels)
    if not MIN_LABELS <= len(names) <= MAX_LABELS:
        raise InputError(
            f"{MIN_LABELS} to {MAX_LABELS} labels are needed, and there are {len(names)}.",
            parameter="labels",
        )
    return names


def _distinct(labels: Sequence[str]) -> list[str]:
    if isinstance(labels, str) or not all(isinstance(label, str) for label in labels):
        raise InputError("a list of names.", parameter="labels")
    names = [" ".join(label.split()) for label in labels]
    if not all(names):
        raise InputError("a label's name is empty.", parameter="labels")
    known: dict[str, str] = {}
    for name in names:
        if other := known.get(name.casefold()):
            what = "twice" if other == name else f"and {other!r}, which differ by case alone"
            raise InputError(f"it has {name!r} {what}.", parameter="labels")
        known[name.casefold()] = name
    return names


@dataclass
class ProjectFacts:
    """What stays the same from one session of a project to the next.

    Attributes
    ----------
    labels : list of str
    multi_label : bool
    encoder : str
        Its name.
    seed : int
        Of the random sample.
    descriptions : dict of str to str
        Sentences about some labels.
    """

    labels: list[str]
    multi_label: bool
    encoder: str
    seed: int
    descriptions: dict[str, str]

    def check_answer(self, label: str | Sequence[str] | None) -> list[str] | None:
        """Return the labels of an answer in the project's order; None skips the text.

        Raises
        ------
        InputError
            If one is unknown, or there is not one where a text has one label.
        """
        if label is None:
            return None
        if not isinstance(label, str | Sequence):
            raise InputError("is no label of this session.", parameter="label", value=label)
        labels = [label] if isinstance(label, str) else list(label)
        if unknown := [one for one in labels if one not in self.labels]:
            raise InputError("is no label of this session.", parameter="label", value=unknown[0])
        if not self.multi_label and len(labels) != 1:
            raise InputError("one label for each text.", parameter="label")
        return [one for one in self.labels if one in labels]

    @property
    def described(self) -> list[str]:
        """The labels as sentences, which the encoder compares texts with."""
        return [
            f"{label.replace('_', ' ')}. {self.descriptions[label]}"
            if self.descriptions.get(label)
            else label.replace("_", " ")
            for label in self.labels
        ]

    def store(self, store: Store) -> None:
        """Write those that the project does not have yet."""
        for name, value in asdict(self).items():
            if store.fact(name) != value:
                store.set_fact(name, value)


def settle_facts(
    store: Store,
    labels: Sequence[str],
    *,
    multi_label: bool,
    encoder: str,
    seed: int,
    descriptions: Mapping[str, str],
    add_labels: bool,
) -> ProjectFacts:
    """Return the facts of a project: those given if it is new, else its own.

    Parameters
    ----------
    store : Store
    labels, multi_label, encoder, seed, descriptions, add_labels
        As for `Session`.

    Raises
    ------
    InputError
        If the labels are not valid, or the project has other labels or another encoder.
    """
    known = store.fact("labels")
    names = _distinct(labels) if isinstance(known, list) else check_labels(labels)
    if isinstance(known, list):
        new = [label for label in names if label not in known]
        missing = [label for label in known if label not in names]
        if new and not missing and not add_labels:
            raise InputError(
                f"is needed for labels that the project does not have: {_listed(new)}.",
                parameter="add_labels",
            )
        if missing and not add_labels:
            raise InputError(
                f"the project has the labels {_listed(known)}.",
                parameter="labels",
                value=", ".join(names[:MOST_LISTED]),
            )
        if bool(store.fact("multi_label")) != multi_label:
            several = "any number of labels" if not multi_label else "one label"
            raise InputError(f"the project has {several} a text.", parameter="multi_label")
        names = check_labels([*known, *new])
    its_encoder, its_seed = store.fact("encoder"), store.fact("seed")
    if its_encoder not in (None, encoder):
        raise InputError(
            f"the project has the encoder {its_encoder!r}.", parameter="encoder", value=encoder
        )
    described = store.fact("descriptions")
    return ProjectFacts(
        names,
        multi_label,
        encoder,
        its_seed if isinstance(its_seed, int) else seed,
        {**(described if isinstance(described, dict) else {}), **descriptions},
    )


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - MOST_LISTED} more" if len(labels) > MOST_LISTED else ""
    return ", ".join(map(repr, labels[:MOST_LISTED])) + more
