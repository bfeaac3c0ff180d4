"""Tables to files of vectors, block by block; `transform_iter`."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frozenbert import DistilBertVectorizer, InputError
from frozenbert.bulk import stream
from frozenbert.bulk.stream import (
    embed_partition,
    embed_table,
    partition_targets,
    validate,
)
from frozenbert.tables.reading import read_blocks, read_table
from frozenbert.tables.writing import write_table

TEXTS = [f"{i} good film" + " very" * (i % 5) for i in range(100)]


@pytest.fixture
def embed(tiny: str, tmp_path: Path) -> DistilBertVectorizer:
    return DistilBertVectorizer(tiny, cache_dir=tmp_path / "cache", progress=False).fit([""])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "block_rows", lambda n_features: 7)
    monkeypatch.setattr(stream, "VALIDATION_ROWS", 9)


def frame(n: int = 100) -> pd.DataFrame:
    return pd.DataFrame(
        {"id": range(n), "text": TEXTS[:n], "label": [f"l{i % 2}" for i in range(n)]}
    )


# Blocks of a table


@pytest.mark.parametrize("rows", [1, 7, 50, 100, 1000])
@pytest.mark.parametrize("ending", ["tsv", "csv", "csv.gz", "jsonl", "parquet"])
def test_blocks_put_together_are_the_table(tmp_path: Path, ending: str, rows: int) -> None:
    file = tmp_path / f"x.{ending}"
    write_table(frame(), file)
    whole = read_table(file, columns=["text"])
    blocks = list(read_blocks(file, rows, columns=["text"]))
    assert [len(block.frame) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
    assert len(blocks) == -(-100 // rows)
    together = pd.concat([block.frame for block in blocks], ignore_index=True)
    assert together.to_dict("list") == whole.frame.to_dict("list")
    assert [line for block in blocks for line in block.lines] == list(whole.lines)
    assert {(block.header, block.header_guessed) for block in blocks} == {
        (whole.header, whole.header_guessed)
    }


def test_blocks_of_a_parquet_file_go_over_its_row_groups(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": TEXTS}), file, row_group_size=13)
    assert [len(block.frame) for block in read_blocks(file, 30)] == [30, 30, 30, 10]


def test_quotes_and_line_ends_in_blocks(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    texts = ['one\nof "two" lines', "a, b", ""] * 5
    write_table(pd.DataFrame({"text": texts}), file)
    blocks = list(read_blocks(file, 4))
    assert [t for block in blocks for t in block.frame["text"]] == texts
    assert blocks[1].where(0) == f"{file}, line 8"


@pytest.mark.parametrize("rows", [3, 100])
def test_a_wrong_row_in_a_later_block_is_named_by_its_line(tmp_path: Path, rows: int) -> None:
    file = tmp_path / "x.csv"
    file.write_text("text,label\n" + "good film,1\n" * 20 + "bad,0,7\n" + "fine,1\n" * 5)
    with pytest.raises(InputError, match=r"x\.csv, line 22: the number of fields is 3, but 2"):
        list(read_blocks(file, rows))


def test_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("")
    (tmp_path / "y.csv").write_text("text\n")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "z.parquet")
    for name, says in {
        "x.csv": "is empty",
        "y.csv": "has a header",
        "z.parquet": "is empty",
    }.items():
        with pytest.raises(InputError, match=says):
            list(read_blocks(tmp_path / name, 5, header=None if name == "x.csv" else True))


def test_parquet_blocks_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    table = pa.table(
        {
            "text": ["a", "b", None],
            "large": pa.array([2**62 + 1, None, 3], pa.int64()),
            "list": pa.array([["x"], [], None], pa.list_(pa.string())),
            "when": pa.array([0, 1, None], pa.timestamp("us")),
        }
    )
    pq.write_table(table, file)
    [block] = read_blocks(file, 10)
    again = pa.table({name: pa.array(column) for name, column in block.frame.items()})
    assert again.to_pylist() == table.to_pylist()


# Vectors in files


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("ending", ["csv", "tsv.gz", "jsonl", "parquet"])
@pytest.mark.parametrize("limit", [None, 1, 7, 50])
def test_vectors_are_those_of_one_transform(
    embed: DistilBertVectorizer, tmp_path: Path, ending: str, limit: int | None
) -> None:
    write_table(frame(), tmp_path / f"x.{ending}")
    expected = embed.transform(TEXTS[:limit])
    columns = {"text_column": "text", "limit": limit}

    source = validate(tmp_path / f"x.{ending}", **columns)
    written = embed_table(embed, source, tmp_path / "out" / "x.npy", {"notice": None})
    array = np.load(tmp_path / "out" / "x.npy", mmap_mode="r")
    assert (array == expected).all()
    assert (written.n_texts, written.n_features) == expected.shape
    facts = json.loads((tmp_path / "out" / "x.json").read_text())
    assert facts["n_texts"] == len(expected)
    assert facts["encoder"]["content_hash"] == embed.encoder_hash_

    source = validate(tmp_path / f"x.{ending}", for_parquet=True, **columns)
    embed_table(embed, source, tmp_path / "x.vectors.parquet", {})
    parquet = pq.ParquetFile(tmp_path / "x.vectors.parquet")
    assert parquet.num_row_groups == -(-len(expected) // 7)
    table = parquet.read()
    assert (np.stack(table["vector"].to_numpy(zero_copy_only=False)) == expected).all()
    before = read_table(tmp_path / f"x.{ending}", columns=["text"]).frame.head(limit)
    assert table.drop_columns("vector").to_pylist() == before.to_dict("records")
    assert json.loads(parquet.metadata.metadata[b"frozenbert"])["n_truncated"] == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["x.json", "x.npy"]


@pytest.mark.usefixtures("small_blocks")
def test_pandas_reads_the_parquet(embed: DistilBertVectorizer, tmp_path: Path) -> None:
    write_table(frame(20), tmp_path / "x.csv")
    source = validate(tmp_path / "x.csv", for_parquet=True)
    embed_table(embed, source, tmp_path / "y.parquet", {})
    found = pd.read_parquet(tmp_path / "y.parquet")
    assert list(found.columns) == ["id", "text", "label", "vector"]
    assert np.stack(found["vector"]) == pytest.approx(embed.transform(TEXTS[:20]), abs=0)


@pytest.mark.usefixtures("small_blocks")
def test_a_key_that_comes_late_and_one_that_ends(
    embed: DistilBertVectorizer, tmp_path: Path
) -> None:
    rows = [{"text": text, "early": i} for i, text in enumerate(TEXTS[:20])]
    rows += [{"text": text, "late": "x"} for text in TEXTS[20:40]]
    file = tmp_path / "x.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = validate(file, for_parquet=True)
    embed_table(embed, source, tmp_path / "y.parquet", {})
    found = pq.read_table(tmp_path / "y.parquet").drop_columns("vector").to_pylist()
    assert found == [{"text": None, "early": None, "late": None} | row for row in rows]


@pytest.mark.usefixtures("small_blocks")
def test_errors_are_raised_before_anything_is_computed(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    good = [json.dumps({"text": text, "n": 1}) for text in TEXTS[:30]]
    for wrong, says in {
        '{"n": 1}': r"x\.jsonl, line 31, column 'text': the text is null",
        '{"text": 7}': r"line 31, column 'text': the text is int '7'",
        '{"text": "a", "n": "one"}': "parquet cannot hold column 'n', whose values have several",
        '{"text": "a", "vector": 1}': "already has a column 'vector'",
    }.items():
        file.write_text("\n".join([*good, wrong]))
        with pytest.raises(InputError, match=says):
            validate(file, for_parquet=True)


@pytest.mark.usefixtures("small_blocks")
def test_a_whole_block_without_texts(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"text": "a", "n": 1}\n' * 9 + '{"n": 1}\n' * 20)
    with pytest.raises(InputError, match=r"x\.jsonl, line 10, column 'text': the text is null"):
        validate(file)


@pytest.mark.usefixtures("small_blocks")
def test_a_table_that_changes_leaves_no_output(embed: DistilBertVectorizer, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    write_table(frame(50), file)
    source = validate(file)
    write_table(frame(30), file)
    with pytest.raises(InputError, match=r"x\.csv: had 50 rows and now has 30: it changed"):
        embed_table(embed, source, tmp_path / "x.npy", {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "x.csv"]


@pytest.mark.usefixtures("small_blocks")
def test_an_interrupted_run_continues_from_the_cache(
    embed: DistilBertVectorizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from frozenbert.encoders.encoder import Encoder

    write_table(frame(), tmp_path / "x.csv")
    source = validate(tmp_path / "x.csv")
    encode, computed = Encoder.encode, []

    def failing(self, ids, *settings):
        if len(computed) >= 40:
            raise KeyboardInterrupt
        computed.extend(ids)
        return encode(self, ids, *settings)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode", failing)
        with pytest.raises(KeyboardInterrupt):
            embed_table(embed, source, tmp_path / "x.npy", {})
    assert not (tmp_path / "x.npy").exists()
    before = len(computed)

    def counting(self, ids, *settings):
        computed.extend(ids)
        return encode(self, ids, *settings)

    monkeypatch.setattr(Encoder, "encode", counting)
    embed_table(embed, source, tmp_path / "x.npy", {})
    assert before >= 40
    assert len(computed) == 100
    assert np.load(tmp_path / "x.npy") == pytest.approx(embed.transform(TEXTS), abs=1e-5)


@pytest.mark.usefixtures("small_blocks")
def test_truncated_texts_are_counted_over_all_blocks(
    embed: DistilBertVectorizer, tmp_path: Path
) -> None:
    texts = TEXTS[:30]
    texts[3] = texts[28] = "film " * 50
    write_table(pd.DataFrame({"text": texts}), tmp_path / "x.csv")
    source = validate(tmp_path / "x.csv")
    with pytest.warns(UserWarning, match=r"2 of 30 texts are longer than 40 tokens") as caught:
        written = embed_table(embed, source, tmp_path / "x.npy", {})
    assert len(caught) == 1
    assert written.n_truncated == 2


def test_the_delimiter_of_a_table(embed: DistilBertVectorizer, tmp_path: Path) -> None:
    texts = [f"so, so; {text}" for text in TEXTS[:20]]
    frame = pd.DataFrame({"text": texts, "stars": ["2,5"] * 20})
    write_table(frame, tmp_path / "x.csv", delimiter=";")
    checked = validate(tmp_path / "x.csv", for_parquet=True)
    assert (checked.first.delimiter, checked.text_column, checked.n_rows) == (";", "text", 20)
    embed_table(embed, checked, tmp_path / "x.parquet", {})
    found = pq.read_table(tmp_path / "x.parquet")
    assert found.drop_columns("vector").to_pylist() == frame.to_dict("records")
    frame.to_csv(tmp_path / "y.csv", sep="^", index=False)
    assert validate(tmp_path / "y.csv", delimiter="^", limit=3).n_rows == 3


@pytest.mark.usefixtures("small_blocks")
def test_a_file_of_one_column_is_read_twice_in_the_same_way(
    embed: DistilBertVectorizer, tmp_path: Path
) -> None:
    texts = ["well", "yes, no", "one, two, three", "a, b, c, d"] * 10
    (tmp_path / "x.csv").write_text("text\n" + "\n".join(texts))
    embed_table(embed, validate(tmp_path / "x.csv"), tmp_path / "x.npy", {})
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), embed.transform(texts), atol=1e-5)


@pytest.mark.parametrize("parameter", ["text_column", "label_column"])
def test_a_column_that_is_missing(tmp_path: Path, parameter: str) -> None:
    write_table(frame(20), tmp_path / "x.csv")
    says = (
        rf"^{parameter}: .*x\.csv: there is no column 'review'; the columns are 'id', 'text', 'la"
    )
    with pytest.raises(InputError, match=says):
        validate(tmp_path / "x.csv", **{parameter: "review"})


# One of several tables


def test_a_partition_is_done_once(embed: DistilBertVectorizer, tmp_path: Path) -> None:
    write_table(frame(20), tmp_path / "a.csv")
    out = tmp_path / "out" / "a.parquet"
    first = embed_partition(embed, tmp_path / "a.csv", out)
    stamp = out.stat().st_mtime_ns
    again = embed_partition(embed, tmp_path / "a.csv", out)
    assert (first.skipped, again.skipped) == (False, True)
    assert (again.n_texts, again.n_truncated) == (20, 0)
    assert out.stat().st_mtime_ns == stamp


def test_a_partition_of_another_table_is_neither_used_nor_overwritten(
    embed: DistilBertVectorizer, tmp_path: Path
) -> None:
    write_table(frame(20), tmp_path / "a.csv")
    out = tmp_path / "a.parquet"
    embed_partition(embed, tmp_path / "a.csv", out)
    content = out.read_bytes()
    other = DistilBertVectorizer(embed.model_name, pooling="mean", progress=False).fit([""])
    with pytest.raises(
        InputError, match=r"a\.parquet already exists, with vectors from another encoder or setting"
    ):
        embed_partition(other, tmp_path / "a.csv", out)
    write_table(frame(21), tmp_path / "a.csv")
    with pytest.raises(
        InputError, match=r"a\.parquet already exists, with vectors from another table"
    ):
        embed_partition(embed, tmp_path / "a.csv", out)
    assert out.read_bytes() == content
    write_table(frame(3), out)
    with pytest.raises(InputError, match=r"a\.parquet already exists"):
        embed_partition(embed, tmp_path / "a.csv", out)


def test_leftovers_of_a_killed_process_are_removed(
    embed: DistilBertVectorizer, tmp_path: Path
) -> None:
    write_table(frame(5), tmp_path / "a.csv")
    for name in ("a", "b", "a.parquet.c"):
        (tmp_path / f".{name}.parquet.0123456789ab.tmp").touch()
    embed_partition(embed, tmp_path / "a.csv", tmp_path / "a.parquet")
    assert sorted(p.name for p in tmp_path.glob(".*")) == [
        ".a.parquet.c.parquet.0123456789ab.tmp",
        ".b.parquet.0123456789ab.tmp",
    ]


def test_a_named_count_of_rows_is_no_column_of_nulls(
    embed: DistilBertVectorizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "block_rows", lambda n_features: 7)
    kept = frame(20).drop(columns="id")
    kept.index.name = "id"
    kept.to_parquet(tmp_path / "x.parquet")
    source = validate(tmp_path / "x.parquet", text_column="text", for_parquet=True)
    embed_table(embed, source, tmp_path / "y.parquet", {})
    found = pq.read_table(tmp_path / "y.parquet")
    assert found.column_names == ["text", "label", "vector"]
    assert found["text"].to_pylist() == TEXTS[:20]


def test_another_column_is_not_done_already(embed: DistilBertVectorizer, tmp_path: Path) -> None:
    write_table(frame(5), tmp_path / "a.csv")
    out = tmp_path / "a.parquet"
    embed_partition(embed, tmp_path / "a.csv", out, text_column="text")
    with pytest.raises(InputError, match="from another column, header or delimiter"):
        embed_partition(embed, tmp_path / "a.csv", out, text_column="label")
    with pytest.raises(InputError, match="from another column, header or delimiter"):
        embed_partition(embed, tmp_path / "a.csv", out, text_column="text", delimiter=",")
    assert embed_partition(embed, tmp_path / "a.csv", out, text_column="text").skipped


def test_several_columns_of_labels_are_skipped_the_second_time(
    embed: DistilBertVectorizer, tmp_path: Path
) -> None:
    write_table(frame(5), tmp_path / "a.csv")
    for skipped in (False, True):
        result = embed_partition(
            embed, tmp_path / "a.csv", tmp_path / "a.parquet", label_column=("id", "label")
        )
        assert result.skipped is skipped


def test_a_pipe_in_place_of_the_output(embed: DistilBertVectorizer, tmp_path: Path) -> None:
    write_table(frame(5), tmp_path / "a.csv")
    os.mkfifo(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: cannot be written, .* neither a file nor"):
        embed_partition(embed, tmp_path / "a.csv", tmp_path / "a.parquet")


def test_the_slower_of_two_processes_uses_the_file_of_the_other(
    embed: DistilBertVectorizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(frame(20), tmp_path / "a.csv")
    out = tmp_path / "a.parquet"
    transform_iter = DistilBertVectorizer.transform_iter

    def slower(self, *arguments, **settings):
        monkeypatch.undo()
        embed_partition(embed, tmp_path / "a.csv", out)
        return transform_iter(self, *arguments, **settings)

    monkeypatch.setattr(DistilBertVectorizer, "transform_iter", slower)
    assert embed_partition(embed, tmp_path / "a.csv", out).skipped
    assert pq.read_table(out).num_rows == 20


def test_targets() -> None:
    paths = [Path("in/a.csv"), Path("in/b.tsv.gz"), Path("in/c.d.parquet")]
    assert [str(t) for t in partition_targets(paths, Path("out")).values()] == [
        "out/a.parquet",
        "out/b.parquet",
        "out/c.d.parquet",
    ]
    with pytest.raises(InputError, match=r"in/a\.csv and in/a\.tsv would both be written"):
        partition_targets([Path("in/a.csv"), Path("in/a.tsv")], Path("out"))
    with pytest.raises(InputError, match=r"out='in': in/a\.parquet would be overwritten"):
        partition_targets([Path("in/a.parquet")], Path("in"))
    with pytest.raises(InputError, match=r"in/notes\.txt: the name of a table must end in"):
        partition_targets([Path("in/notes.txt")], Path("out"))


# transform_iter


def test_transform_iter_is_transform_in_blocks(embed: DistilBertVectorizer) -> None:
    expected = embed.transform(TEXTS)
    for texts in (TEXTS, iter(TEXTS), (t for t in TEXTS), np.array(TEXTS), pd.Series(TEXTS)):
        blocks = list(embed.transform_iter(texts, block_size=30))
        assert [len(block) for block in blocks] == [30, 30, 30, 10]
        assert (np.concatenate(blocks) == expected).all()
    [(vectors, n_tokens)] = embed.transform_iter(TEXTS, return_n_tokens=True)
    assert (vectors == expected).all()
    assert n_tokens.tolist() == [embed._encoder().tokenizer.split(t, 40)[1] for t in TEXTS]


def test_transform_iter_takes_no_more_than_a_block_ahead(embed: DistilBertVectorizer) -> None:
    taken = []

    def texts():
        for text in TEXTS:
            taken.append(text)
            yield text

    blocks = embed.transform_iter(texts(), block_size=10)
    assert not taken
    next(blocks)
    assert len(taken) == 10
    assert list(embed.transform_iter([])) == []


@pytest.mark.parametrize(
    ("texts", "options", "error", "match"),
    [
        ("one string", {}, InputError, "X is one string"),
        (7, {}, TypeError, "X is a int"),
        (TEXTS, {"block_size": 0}, InputError, "block_size=0: a whole number of at least 1"),
        (TEXTS, {"block_size": 2.5}, InputError, r"block_size=2\.5: a whole number"),
        (iter([*TEXTS[:25], None]), {"block_size": 10}, InputError, r"X\[25\] is None"),
        (iter([*TEXTS[:25], 7]), {"block_size": 10}, TypeError, r"X\[25\] is a int"),
    ],
)
def test_transform_iter_errors(embed, texts, options, error, match) -> None:
    with pytest.raises(error, match=match):
        list(embed.transform_iter(texts, **options))


def test_transform_iter_warns_once_of_truncated_texts(embed: DistilBertVectorizer) -> None:
    texts = [*TEXTS[:20], "film " * 50, *TEXTS[20:40], "film " * 60]
    with pytest.warns(UserWarning, match=r"2 of 42 texts are longer .* longest has 62") as caught:
        list(embed.transform_iter(iter(texts), block_size=10))
    assert len(caught) == 1


def test_the_progress_bar_of_a_stream_counts_all_texts(
    embed: DistilBertVectorizer, capsys: pytest.CaptureFixture[str]
) -> None:
    embed.transform(TEXTS[:50])
    embed.set_params(progress=True)
    list(embed.transform_iter([*TEXTS, *TEXTS[:10]], block_size=20))
    assert "/110 [" in capsys.readouterr().err
    list(embed.transform_iter(iter(TEXTS), block_size=20))
    shown = capsys.readouterr().err
    assert "texts" in shown
    assert "110" not in shown


# Memory


MEMORY = """
from pathlib import Path
import numpy as np
from frozenbert import DistilBertVectorizer
from frozenbert.vectors import entries
from frozenbert.encoders.encoder import Encoder
from frozenbert.bulk.stream import embed_table, validate

def cheap(self, ids, *settings):
    return np.ones((len(ids), self.model.config.hidden_size), dtype=np.float32)

Encoder.encode = cheap
embed = DistilBertVectorizer({encoder!r}, layers="all", pooling=("cls", "mean", "max"),
                             cache_dir={cache!r}, progress=False, keep_layers="asked")
embed.fit([""])
embed._encoder()
Encoder.encode = lambda self, ids, *settings: np.ones((len(ids), 288), dtype=np.float32)
embed.transform(["one"])
# The bounded memory of a merge of files would hide the growth that this test measures.
entries.LARGEST_MERGE = 2**20

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024

Path("/proc/self/clear_refs").write_text("5")  # or the peak would be that of loading
before = peak()
source = validate({data!r}, for_parquet={parquet})
embed_table(embed, source, Path({out!r}), {{}})
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_memory_does_not_grow_with_the_table(tiny: str, tmp_path: Path, ending: str) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of memory is read from /proc, as on Linux")
    used = {}
    for n in (20_000, 120_000):
        data = tmp_path / f"{n}.csv.gz"
        with gzip.open(data, "wt") as file:
            file.write("text,label\n")
            file.writelines(f"{i} good film and so on and so forth,1\n" for i in range(n))
        code = MEMORY.format(
            encoder=tiny,
            cache=str(tmp_path / "cache"),
            data=str(data),
            out=str(tmp_path / f"{n}.{ending}"),
            parquet=ending == "parquet",
        )
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False
        )
        assert done.returncode == 0
        used[n] = int(done.stdout)
        assert os.path.getsize(tmp_path / f"{n}.{ending}") > (n * 1000 if ending == "npy" else n)
    print(f"{used} MB above the encoder")
    # The results are 23 and 138 MB.
    assert used[120_000] < used[20_000] + 60


@pytest.fixture(autouse=True)
def _no_warnings_that_nobody_expects():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*cache.*")
        yield
