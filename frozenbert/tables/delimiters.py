"""Recognise the delimiter and the quoting of a tsv or csv file."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import InputError
from .columns import is_header
from .records import Dialect, RowReader, delimiter_name, first_line_of, transposed
from .table import TableFile, table_format

__all__ = ["CANDIDATES", "SAMPLE", "check_delimiter", "find_dialect", "is_declaration"]

CANDIDATES = (",", ";", "\t", "|")
SAMPLE = 1000  # records that are examined
BEGINNING = 100  # characters of a cell that are examined; longer ones are neither name nor number

_DECLARATION = re.compile(r"sep=([^\w\s\"]|\t| )", re.IGNORECASE)  # as Excel writes and reads it
_NAMED = {"tab": "\t", r"\t": "\t"}
_ILLEGAL = re.compile('["\r\n\0\ufeff\ud800-\udfff]')


def check_delimiter(delimiter: str | None) -> str | None:
    r"""Return a delimiter as one character, or None.

    Parameters
    ----------
    delimiter : str or None
        One character that is no quote and no line end; or "tab" or `"\\t"`.

    Raises
    ------
    InputError
        If it is anything else.

    Examples
    --------
    >>> check_delimiter("tab"), check_delimiter(";")
    ('\t', ';')
    """
    if delimiter is None:
        return None
    found = _NAMED.get(delimiter, delimiter)
    if len(found) != 1 or _ILLEGAL.match(found):
        raise InputError(
            "must be one character, such as ',' ';' or '|', or 'tab'; it cannot be a quote or a "
            "line end.",
            parameter="delimiter",
            value=delimiter,
        )
    return found


def is_declaration(line: str) -> bool:
    """Tell whether a first line such as `sep=;` names the delimiter, and is no data."""
    return _DECLARATION.fullmatch(line) is not None


def find_dialect(
    path: TableFile, delimiter: str | None = None, columns: Sequence[str] = ()
) -> tuple[Dialect, bool]:
    """Find out how the rows of a tsv or csv file are split into fields.

    The delimiter is the one given; else that of a first line such as `sep=;`; else a tab if
    the name ends in .tsv; else the only one of comma, semicolon, tab and vertical bar with
    which the first 1,000 records have one number of fields, at least 2. If none has, the
    file has one column, unless most records look like a table with a damaged row: then its
    delimiter is returned, and `RowReader.records` reports that row.

    Parameters
    ----------
    path : TableFile
    delimiter : str, optional
        As for `check_delimiter`.
    columns : sequence of str, optional
        Names of columns that a header may contain; see `is_header`.

    Returns
    -------
    dialect : Dialect
    guessed : bool
        Whether the delimiter was recognised from the records.

    Raises
    ------
    InputError
        If more than one delimiter fits, or the file cannot be read.
    """
    given = check_delimiter(delimiter)
    declared = _DECLARATION.fullmatch(first_line_of(path))
    skip = declared is not None
    is_tsv = table_format(path) == "tsv"
    named = given or (declared and declared[1]) or ("\t" if is_tsv else None)
    if named is not None:
        literal = is_tsv and named == "\t" and not _is_quoted(path, skip)
        return Dialect(named, not literal, skip), False
    samples = [_Sample.of(path, candidate) for candidate in CANDIDATES]
    fitting = [sample.delimiter for sample in samples if sample.fits]
    if len(fitting) > 1:
        names = " and ".join(map(delimiter_name, fitting))
        raise InputError(
            f"{path}: its rows can be split at {names}, each giving the same number of fields in "
            f"every row; say which of them is the delimiter.",
            parameter="delimiter",
        )
    if not fitting:
        damaged = [sample for sample in samples if sample.is_damaged_table(columns)]
        damaged.sort(key=lambda sample: -sample.share)  # stable: the comma comes first
        fitting = [sample.delimiter for sample in damaged]
    return Dialect(fitting[0] if fitting else None), True


@dataclass
class _Sample:
    """The first records of a file, split with one delimiter.

    Texts may be long and have thousands of commas, so little of them is held in memory.

    Attributes
    ----------
    delimiter : str
    widths : collections.Counter
        The number of records with each number of fields.
    rows : list of list of str
        The first record and those with as many fields, if more than one; the beginning of
        each cell.
    malformed : bool
        Whether the records end with one that cannot be split.
    """

    delimiter: str
    widths: Counter[int] = field(default_factory=Counter)
    rows: list[list[str]] = field(default_factory=list)
    malformed: bool = False

    @classmethod
    def of(cls, path: TableFile, delimiter: str) -> _Sample:
        sample = cls(delimiter)
        rows = (row for _, row in RowReader(path, Dialect(delimiter)) if row)
        try:
            for row in itertools.islice(rows, SAMPLE):
                sample.widths[len(row)] += 1
                if not sample.rows or len(row) == len(sample.rows[0]) > 1:
                    sample.rows.append([cell[:BEGINNING] for cell in row])
        except InputError:
            sample.malformed = True
        return sample

    @property
    def fits(self) -> bool:
        """Whether all records have one number of fields, at least 2."""
        return not self.malformed and len(self.widths) == 1 and min(self.widths) > 1

    @property
    def share(self) -> float:
        """The share of the records that have the most frequent number of fields above 1."""
        _, count = self._most_frequent()
        return count / (self.widths.total() + self.malformed) if count else 0.0

    def _most_frequent(self) -> tuple[int, int]:
        wide = Counter({width: n for width, n in self.widths.items() if width > 1})
        return wide.most_common(1)[0] if wide else (0, 0)

    def is_damaged_table(self, columns: Sequence[str]) -> bool:
        """Tell whether this is a table with a damaged row, and not prose with such characters.

        It is a table if its first record is a header, or if at least half of the records have
        the first one's number of fields. If the first record itself is the odd one, half of
        the records decide for a comma, and nine tenths (at least 10) for other delimiters:
        a header "text" above two texts with a semicolon each is prose.
        """
        width, count = self._most_frequent()
        if not count:
            return False
        first = self.rows[0]
        if len(first) == width and self.share >= 0.5:
            return True
        if len(first) > 1 and is_header(first, transposed(self.rows[1:], len(first)), columns):
            return True
        return self.share >= 0.5 if self.delimiter == "," else self.share >= 0.9 and count >= 10


def _is_quoted(path: TableFile, skip_first: bool) -> bool:
    """Tell whether a tsv file is to be read with quotes; see the notes of `read_table`."""
    literal = RowReader(path, Dialect("\t", quoted=False, skip_first=skip_first))
    if not any('"' in cell for _, row in literal for cell in row):
        return False
    reader = RowReader(path, Dialect("\t", skip_first=skip_first))
    try:
        n_quoted = sum(1 for _ in reader.records())
    except InputError:
        return False
    try:
        n_literal = sum(1 for _ in literal.records())
    except InputError:
        return True
    return n_quoted == n_literal or not reader.n_bare
