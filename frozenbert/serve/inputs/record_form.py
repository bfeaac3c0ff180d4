"""Records: the rows that a model of texts and other columns is asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sklearn.base import BaseEstimator

from ...errors import InputError
from ...heads.columns.joint import JointModel
from ...heads.columns.reader import ColumnReader
from ...utils.steps import find_step

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Cell", "Record", "RecordForm", "find_form"]

Cell: TypeAlias = str | int | float | bool | None
Record: TypeAlias = Mapping[str, Cell]

EXAMPLES: Mapping[str, Cell] = {
    "text": "a stirring film",
    "number": 4.5,
    "category": "north",
    "date": "2026-01-31",
}
_TYPES = {"text": ["string"], "number": ["number", "string"], "date": ["string"]}
_DESCRIPTIONS = {
    "text": "A text.",
    "number": "A number, also as a string.",
    "category": "A category; one that the training rows do not have is no error.",
    "date": "A date.",
}


@dataclass(frozen=True, eq=False)
class RecordForm:
    """The columns that a model reads, and what they contain.

    Parameters
    ----------
    reader : frozenbert.heads.columns.reader.ColumnReader
        Fitted.
    """

    reader: ColumnReader

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each column ("text", "number", "category", "date"), texts first."""
        return {name: kind for kind, names in self.reader.kinds_.items() for name in names}

    def example(self, text: str | None = None) -> dict[str, Cell]:
        """Return a record to show; or one with a text and nothing else, to ask the model."""
        if text is None:
            return {name: EXAMPLES[kind] for name, kind in self.kinds.items()}
        return {name: text if kind == "text" else None for name, kind in self.kinds.items()}

    def check(self, records: Sequence[Record]) -> None:
        """Raise `InputError` if a record lacks a column, or a cell is not of its column's kind.

        Columns that the model does not read are ignored.
        """
        names = list(self.kinds)
        for number, record in enumerate(records):
            for name in names:
                if name not in record:
                    raise InputError(
                        f"record {number} (counted from 0): column {name!r} is missing; the model "
                        f"reads {', '.join(names)}. Send null for a value that is not known."
                    )
        self.reader.texts(self.frame(records))

    def frame(self, records: Sequence[Record]) -> pd.DataFrame:
        """Return records as a table."""
        import pandas as pd

        # As objects, so that the type of a cell does not depend on the other records.
        columns = {name: [record[name] for record in records] for name in self.kinds}
        return pd.DataFrame(columns, dtype=object)

    def schema(self) -> dict[str, object]:
        """Return the JSON schema of a request's body, with an example."""
        properties = {
            name: {
                "type": [*_TYPES.get(kind, ["string", "number", "boolean"]), "null"],
                "description": _DESCRIPTIONS[kind],
            }
            for name, kind in self.kinds.items()
        }
        record = {"type": "object", "properties": properties, "required": list(properties)}
        return {
            "title": "RecordsRequest",
            "type": "object",
            "properties": {"records": {"type": "array", "items": record, "minItems": 1}},
            "required": ["records"],
            "examples": [{"records": [self.example()]}],
        }


def find_form(model: BaseEstimator) -> RecordForm | None:
    """Return the form of a fitted model's records; None if it reads texts alone."""
    joint = find_step(model, JointModel)
    return None if joint is None else RecordForm(joint.reader_)
