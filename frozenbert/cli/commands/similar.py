"""Find near-duplicates, neighbours, outliers and clusters among the texts of a table."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError
from ..arguments import (
    add_cache,
    add_debug,
    add_encoder,
    add_limit,
    add_seed,
    add_streams,
    add_table,
    number,
    positive,
)

if TYPE_CHECKING:
    import numpy as np

    from ...similarity.clusters import Clusters
    from ...similarity.duplicates import NearDuplicates
    from ...tables.table import Column, Table

__all__ = ["add_arguments", "run"]

MOST_SHOWN = 50  # pairs, outliers, neighbours of a text and clusters on the page


@dataclass
class _Found:
    """Texts, and what was found of them."""

    texts: list[str]
    pairs: NearDuplicates
    outliers: np.ndarray
    clusters: Clusters
    words: list[list[str]]
    # Rows and similarities of the neighbours, by the row of the text.
    neighbours: dict[int, tuple[list[int], list[float]]] = field(default_factory=dict)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE",
        help="table of texts; -: standard input, see --format",
    )
    parser.add_argument(
        "--out", required=True, metavar="FOLDER", help="folder for the csv files and the page"
    )
    add_limit(parser)
    add_seed(parser)
    parser.add_argument(
        "--no-examples", action="store_true", help="write row numbers only, no texts and no words"
    )
    add_debug(parser)
    similar = parser.add_argument_group("similarity (cosine of vectors)")
    similar.add_argument(
        "--threshold",
        type=number,
        default=0.9,
        metavar="COSINE",
        help="pairs at or above it are near-duplicates; from 0 to 1; default: 0.9",
    )
    similar.add_argument(
        "--max-pairs",
        type=positive,
        default=1_000_000,
        metavar="N",
        help="list at most N near-duplicates, the most similar; default: 1000000",
    )
    similar.add_argument(
        "--text",
        action="append",
        help="list the nearest neighbours of this text of the table; may be given several times",
    )
    similar.add_argument(
        "--n-neighbors",
        type=positive,
        default=10,
        metavar="N",
        help="neighbours of a --text; default: 10",
    )
    similar.add_argument(
        "--n-clusters",
        type=positive,
        metavar="N",
        help="clusters, by k-means; default: HDBSCAN decides, or of more than 10,000 texts the "
        "square root of half their number, at most 100",
    )
    add_table(parser)
    add_streams(parser, what="standard input")
    add_encoder(parser)
    add_cache(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the csv files and the page, and print a summary."""
    from ...embed import DistilBertVectorizer
    from ..options import encoder_settings, label_columns, read_texts
    from ..output import describe_files, describe_table, say, say_encoder
    from ..streams import check_exists, check_formats, open_data

    started = time.perf_counter()
    check_exists(arguments, "data")
    check_formats(arguments)
    out = _folder(arguments)
    if not 0 <= arguments.threshold <= 1:
        raise InputError("a number from 0 to 1.", parameter="threshold", value=arguments.threshold)
    table, column, texts = read_texts(
        arguments, open_data(arguments), None, label_columns(arguments)
    )
    texts = texts[: arguments.limit]
    if len(texts) < 2:
        raise InputError(f"{table.path}: there are fewer than two texts to compare.")
    asked = _rows_of(arguments.text or (), texts, table)
    say("data", describe_table(table, column, n_rows=len(texts)))
    settings, _ = encoder_settings(arguments)
    vectorizer = DistilBertVectorizer(**settings)
    vectors = vectorizer.fit_transform(texts)
    say_encoder(vectorizer)
    say("vectors", f"{time.perf_counter() - started:.1f} s")
    started = time.perf_counter()
    found = _find(arguments, texts, vectors, asked)
    _write(out, found, table, arguments, vectorizer.encoder_name_)
    _print(found, arguments.threshold)
    say("time", f"{time.perf_counter() - started:.1f} s after the vectors")
    say("written", describe_files(out))


def _folder(arguments: argparse.Namespace) -> Path:
    from ...utils.files import check_can_write
    from ..streams import is_stdout

    out = Path(arguments.out)
    if is_stdout(arguments.out):
        raise InputError(
            "several files are written: name a folder.", parameter="out", value=arguments.out
        )
    if out.exists() and not out.is_dir():
        raise InputError("is a file; name a folder.", parameter="out", value=out)
    check_can_write(out / "similar.html")
    return out


def _rows_of(asked: Sequence[str], texts: list[str], table: Table) -> list[int]:
    """Return the first row of each text that is asked for."""
    rows = []
    for text in asked:
        try:
            rows.append(texts.index(text))
        except ValueError:
            raise InputError(
                f"no row of {table.path} has exactly this text; copy it from there.",
                parameter="text",
            ) from None
    return rows


def _find(
    arguments: argparse.Namespace, texts: list[str], vectors: np.ndarray, asked: list[int]
) -> _Found:
    from ...similarity import (
        find_clusters,
        find_near_duplicates,
        find_neighbours,
        score_outliers,
    )
    from ...similarity.clusters import find_words

    pairs = find_near_duplicates(vectors, arguments.threshold, max_pairs=arguments.max_pairs)
    clusters = find_clusters(vectors, arguments.n_clusters, random_state=arguments.seed)
    found = _Found(
        texts,
        pairs,
        score_outliers(vectors, random_state=arguments.seed),
        clusters,
        find_words(texts, clusters.labels),
    )
    for row in asked:
        # One more: the text itself is among them.
        number = min(arguments.n_neighbors + 1, len(texts))
        rows, similarity = find_neighbours(vectors, vectors[[row]], number)
        others = [
            (int(r), float(s)) for r, s in zip(rows[0], similarity[0], strict=True) if r != row
        ][: arguments.n_neighbors]
        found.neighbours[row] = ([r for r, _ in others], [s for _, s in others])
    return found


def _write(
    out: Path, found: _Found, table: Table, arguments: argparse.Namespace, encoder: str
) -> None:
    """Write the csv files and the page."""
    from ...reports.report import render_page
    from ...tables.writing import write_table
    from ...utils.files import writing

    examples = not arguments.no_examples
    for name, columns in _tables(found, examples).items():
        write_table(columns, out / name)
    page = render_page(
        "similar.html",
        file=Path(table.path).name,
        encoder=encoder,
        threshold=arguments.threshold,
        **_page(found, examples),
    )
    with writing(out / "similar.html") as file:
        file.write_text(page, encoding="utf-8", errors="replace")


def _tables(found: _Found, examples: bool) -> dict[str, dict[str, Column]]:
    """Return the columns of each csv file; rows are counted from 1."""
    pairs, clusters, texts = found.pairs, found.clusters, found.texts
    tables: dict[str, dict[str, Column]] = {
        "near_duplicates.csv": {
            "row_1": (pairs.first + 1).tolist(),
            "row_2": (pairs.second + 1).tolist(),
            "similarity": _rounded(pairs.similarity),
        },
        "texts.csv": {
            "row": range(1, len(texts) + 1),
            "near_duplicate_of": [
                "" if group == row else group + 1 for row, group in enumerate(pairs.groups.tolist())
            ],
            "outlier_score": _rounded(found.outliers),
            "cluster": ["" if label < 0 else label + 1 for label in clusters.labels.tolist()],
        },
        "clusters.csv": {
            "cluster": range(1, len(clusters.typical) + 1),
            "n_texts": [int((clusters.labels == i).sum()) for i in range(len(clusters.typical))],
            "typical_rows": [" ".join(str(r + 1) for r in rows) for rows in clusters.typical],
        },
    }
    if found.neighbours:
        tables["neighbours.csv"] = {
            "row": [row + 1 for row, (rows, _) in found.neighbours.items() for _ in rows],
            "neighbour": [r + 1 for rows, _ in found.neighbours.values() for r in rows],
            "similarity": [round(s, 6) for _, values in found.neighbours.values() for s in values],
        }
    if examples:
        for name in ("row_1", "row_2"):
            rows = tables["near_duplicates.csv"][name]
            tables["near_duplicates.csv"][name.replace("row", "text")] = [
                texts[row - 1] for row in rows
            ]
        tables["texts.csv"]["text"] = texts
        tables["clusters.csv"]["words"] = [" ".join(words) for words in found.words]
        tables["clusters.csv"]["typical_text"] = [texts[rows[0]] for rows in clusters.typical]
        if found.neighbours:
            rows = tables["neighbours.csv"]["neighbour"]
            tables["neighbours.csv"]["text"] = [texts[row - 1] for row in rows]
    return tables


def _rounded(values: np.ndarray) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


def _page(found: _Found, examples: bool) -> dict[str, object]:
    """Return what the page shows; without examples, texts and words are None."""
    texts = found.texts if examples else [None] * len(found.texts)
    pairs, clusters = found.pairs, found.clusters
    shown = range(min(MOST_SHOWN, len(pairs.first)))
    outliers = (-found.outliers).argsort(kind="stable")[:MOST_SHOWN].tolist()
    sizes = Counter(clusters.labels.tolist())

    def cell(row: int) -> dict[str, object]:
        return {"row": row + 1, "text": texts[row]}

    return {
        "n_texts": len(texts),
        "n_pairs": pairs.n_found,
        "n_listed": len(pairs.first),
        "n_repeated": _n_repeated(pairs),
        "pairs": [
            {
                "first": cell(int(pairs.first[i])),
                "second": cell(int(pairs.second[i])),
                "similarity": float(pairs.similarity[i]),
            }
            for i in shown
        ],
        "neighbours": [
            {
                "of": cell(row),
                "rows": [
                    cell(r) | {"similarity": s} for r, s in zip(rows, similarity, strict=True)
                ][:MOST_SHOWN],
            }
            for row, (rows, similarity) in found.neighbours.items()
        ],
        "outliers": [cell(row) | {"score": float(found.outliers[row])} for row in outliers],
        "method": clusters.method,
        "n_clusters": len(clusters.typical),
        "n_in_none": sizes[-1],
        "clusters": [
            {
                "number": i + 1,
                "n_texts": sizes[i],
                "words": found.words[i] if examples else None,
                "typical": [cell(row) for row in rows.tolist()[:3]],
            }
            for i, rows in enumerate(clusters.typical[:MOST_SHOWN])
        ],
    }


def _n_repeated(pairs: NearDuplicates) -> int:
    """Return the number of texts that are near-duplicates of an earlier one."""
    return sum(group != row for row, group in enumerate(pairs.groups.tolist()))


def _print(found: _Found, threshold: float) -> None:
    from ..output import say

    pairs, clusters = found.pairs, found.clusters
    say(
        "duplicates",
        f"{pairs.n_found:,} pairs with a cosine of at least {threshold:g}; "
        f"{_n_repeated(pairs):,} texts are near-duplicates of an earlier one",
    )
    in_none = int((clusters.labels < 0).sum())
    say("clusters", f"{len(clusters.typical):,} ({clusters.method}); {in_none:,} texts in none")
    top = (-found.outliers).argsort(kind="stable")[:3].tolist()
    say("outliers", ", ".join(f"row {row + 1} ({found.outliers[row]:.3f})" for row in top))
    for row, (rows, similarity) in found.neighbours.items():
        near = ", ".join(f"row {r + 1} ({s:.3f})" for r, s in zip(rows, similarity, strict=True))
        say("neighbours", f"of row {row + 1}: {near}")
