"""Many labels a text, words, long texts and languages, from the files to the report."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from frozenbert import InputError, load_model
from frozenbert.tables.cells import has_lists, label_sets_of
from frozenbert.tables.reading import read_table
from frozenbert.tables.table import Table
from frozenbert.tables.writing import write_table

KINDS = {"toxic": "bad", "insult": "dull", "spam": "slow"}


def comments(n: int = 96) -> pd.DataFrame:
    """Comments with any of three labels, each told by a word."""
    rows = []
    for i in range(n):
        flags = {kind: i >> place & 1 for place, kind in enumerate(KINDS)}
        words = [word for kind, word in KINDS.items() if flags[kind]]
        rows.append({"comment": f"{' '.join(words)} film {i} so and so", **flags})
    return pd.DataFrame(rows)


OPTIONS = ["--cv", 2, "--C", "0.01,1", "--pooling", "mean", "--out", "model"]
COLUMNS = [part for kind in KINDS for part in ("--label-column", kind)]


@pytest.mark.parametrize("form", ["columns", "separated", "lists"])
def test_many_labels_from_file_to_file(run, tiny, form):
    frame = comments()
    labels = COLUMNS
    if form == "columns":
        write_table(frame, "train.csv")
        data = "train.csv"
    else:
        sets = [[kind for kind in KINDS if row[kind]] for _, row in frame.iterrows()]
        joined = ["|".join(s) for s in sets] if form == "separated" else sets
        frame = pd.DataFrame({"comment": frame["comment"], "tags": joined})
        data = "train.csv" if form == "separated" else "train.jsonl"
        write_table(frame, data)
        labels = ["--label-column", "tags"]
        labels += ["--label-separator", "|"] if form == "separated" else []
    code, out, err = run("train", "--data", data, "--encoder", tiny, *labels, *OPTIONS)
    assert (code, err) == (0, "")
    assert re.search(r"^train  72 rows; (toxic|insult|spam): 3\d, ", out, re.MULTILINE)
    assert "macro F1  micro F1  all right" in out
    assert "with thresholds of 0.5" in out
    metrics = json.loads(Path("model/metrics.json").read_text("utf-8"))
    assert set(metrics["per_class"]) == set(KINDS)
    assert metrics["macro_f1"] > 0.8
    for figures in metrics["per_class"].values():
        assert 0 < figures["threshold"] < 1
        assert figures["average_precision"] > 0.8
    assert metrics["baseline"]["macro_f1"] > 0.9
    assert Path("model/labels.png").exists()
    assert not Path("model/confusion_matrix.png").exists()
    page = Path("model/report.html").read_text("utf-8")
    assert "average precision" in page
    assert "macro F1 of the baseline" in page

    write_table(comments(8)[["comment"]], "new.csv")
    code, out, _ = run("classify", "--model", "model", "--data", "new.csv", "--out", "out.csv")
    assert code == 0
    assert re.search(r"^labels +prediction_\w+: \d+, ", out, re.MULTILINE)
    found = pd.read_csv("out.csv")
    names = sorted(KINDS) if form != "columns" else list(KINDS)
    assert list(found.columns) == [
        "comment", *(f"prediction_{k}" for k in names), *(f"proba_{k}" for k in names)
    ]  # fmt: skip
    model = load_model("model")
    np.testing.assert_array_equal(
        found.iloc[:, 1:4].to_numpy(), model.predict(found["comment"].tolist())
    )
    code, out, _ = run("classify", "--model", "model", "--text", "bad slow film 5 so and so")
    assert re.search(r"^prediction_toxic\t1$", out, re.MULTILINE)
    assert re.search(r"^prediction_insult\t0$", out, re.MULTILINE)
    assert re.search(r"^proba_spam\t0\.\d{4}$", out, re.MULTILINE)


def test_a_test_file_of_many_labels(run, tiny):
    frame = comments()
    frame["tags"] = ["|".join(k for k in KINDS if row[k]) for _, row in frame.iterrows()]
    write_table(frame[["comment", "tags"]][:72], "train.csv")
    write_table(frame[["comment", "tags"]][72:], "test.csv")
    options = ["--label-column", "tags", "--label-separator", "|", *OPTIONS]
    code, *_ = run(
        "train", "--data", "train.csv", "--test", "test.csv", "--encoder", tiny, *options
    )
    assert code == 0
    frame.loc[90, "tags"] = "toxic|rude"
    write_table(frame[["comment", "tags"]][72:], "test.csv")
    code, _, err = run(
        "train", "--data", "train.csv", "--test", "test.csv", "--encoder", tiny, *options
    )
    assert code == 2
    assert "test.csv, line 20: the label 'rude'" in err


@pytest.mark.parametrize(
    ("change", "arguments", "match"),
    [
        ({"spam": 2}, COLUMNS, "line 4, column 'spam': '2' is neither 0 nor 1"),
        ({}, [*COLUMNS, "--label-column", "spam"], "a column of labels is named twice"),
        ({}, ["--label-column", "rude", *COLUMNS], "there is no column 'rude'"),
        (
            {},
            [*COLUMNS, "--label-separator", "|"],
            "--label-separator |: requires one column of labels",
        ),
        ({}, ["--label-column", "spam", "--label-separator", ""], "--label-separator: is empty"),
        ({}, [*COLUMNS, "--scoring", "f1"], "--scoring f1: "),
        (
            {},
            ["--label-column", "spam", "--calibrate", "sigmoid", "--class-weight", "balanced"],
            "--calibrate sigmoid: ",
        ),
        ({}, [*COLUMNS, "--scoring", "f2"], "--scoring f2: "),
        ({}, [*COLUMNS, "--text-column", "spam"], "column 'spam' cannot be both"),
    ],
)
def test_what_is_wrong_with_labels(run, tiny, change, arguments, match):
    frame = comments(16)
    for column, value in change.items():
        frame.loc[2, column] = value
    write_table(frame, "train.csv")
    code, _, err = run("train", "--data", "train.csv", "--encoder", tiny, "--cv", 2, *arguments)
    assert code == 2
    assert match in err
    assert err.count("\n") == 1


def test_a_label_with_one_row_is_a_warning(run, tiny):
    frame = comments()
    frame["threat"] = 0
    frame.loc[3, "threat"] = 1
    write_table(frame, "train.csv")
    columns = [*COLUMNS, "--label-column", "threat"]
    write_table(comments(16).assign(threat=0), "test.csv")
    code, _, err = run(
        "train", "--data", "train.csv", "--test", "test.csv", "--encoder", tiny, *columns, *OPTIONS
    )
    assert code == 0
    assert "warning: label 'threat' has 1 training rows with it, too few for 2 folds" in err
    figures = json.loads(Path("model/metrics.json").read_text("utf-8"))["per_class"]["threat"]
    assert figures["average_precision"] is None
    assert figures["support"] == 0


def test_lists_and_flags():
    table = Table("x.jsonl", pd.DataFrame({"tags": [["b", "a"], [], ["b"]]}), [1, 2, 3], None)
    assert has_lists(table, "tags")
    found = label_sets_of(table, "tags")
    assert found.columns.tolist() == ["a", "b"]
    assert found.to_numpy().tolist() == [[1, 1], [0, 0], [0, 1]]
    flags = pd.DataFrame({"a": [True, False, 1.0], "b": ["1", " 0", "true"]})
    found = label_sets_of(Table("x.jsonl", flags, [1, 2, 3], None), ["a", "b"])
    assert found.to_numpy().tolist() == [[1, 1], [0, 0], [1, 1]]
    for cells, match in [
        ([["a"], None], r"x.jsonl, line 2, column 'tags': the labels are null, but must be a list"),
        ([["a"], [1]], r"the labels are of type list, but must be a list of strings"),
        ([[], []], "column 'tags': no row has a label"),
    ]:
        broken = Table("x.jsonl", pd.DataFrame({"tags": cells}), [1, 2], None)
        with pytest.raises(InputError, match=match):
            label_sets_of(broken, "tags")


# Everything on


def test_all_options_at_once(run, tiny):
    write_table(comments()[["comment", "toxic"]], "train.csv")
    options = ["--search", "features", "--with-tfidf", "--calibrate", "isotonic"]
    options += ["--scoring", "f1_macro", "--long-text", "windows"]
    code, out, err = run(
        "train", "--data", "train.csv", "--encoder", tiny, *options, "--cv", 2, "--C", "0.01,1",
        "--out", "model",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert re.search(
        r"^features +pooling [\w+]+, layer [\d, ]+: the best of 15 choices$", out, re.M
    )
    assert "before calibration" in out
    assert "f1_macro" in out
    sidecar = json.loads(Path("model/model.json").read_text("utf-8"))
    assert sidecar["parameters"]["search"] == "features"
    assert sidecar["parameters"]["with_tfidf"]
    assert sidecar["parameters"]["calibrate"] == "isotonic"
    assert sidecar["parameters"]["class_weight"] is None
    assert sidecar["encoder"]["long_text"] == "windows"
    assert Path("model/features.png").exists()
    # A simpler model in the same folder leaves no plot of this one.
    code, *_ = run("train", "--data", "train.csv", "--encoder", tiny, "--cv", 2, "--out", "model")
    assert code == 0
    assert not Path("model/features.png").exists()


def test_a_model_reads_long_texts_as_it_was_trained(run, tiny):
    write_table(comments()[["comment", "toxic"]], "train.csv")
    options = ["--long-text", "windows", *OPTIONS]
    assert run("train", "--data", "train.csv", "--encoder", tiny, *options)[0] == 0
    text = "bad " * 30 + "good film " * 60
    pd.DataFrame({"comment": [text]}).to_csv("long.csv", index=False)
    call = ["--model", "model", "--data", "long.csv", "--out", "out.csv"]
    code, _, err = run("classify", *call)
    assert (code, err) == (0, "")  # nothing is cut, so there is no warning
    code, _, err = run("classify", *call, "--long-text", "truncate")
    assert code == 2
    assert "unrecognized arguments: --long-text truncate" in err


# The report


HOSTILE = "<script>alert('x')</script> <img src=x onerror=alert(1)> bad film"


def test_texts_in_the_report_are_escaped_or_left_out(run, tiny):
    frame = comments()[["comment", "toxic"]]
    frame["comment"] = [f"{HOSTILE} {i}" for i in range(len(frame))]  # nothing can be told apart
    write_table(frame.rename(columns={"toxic": "label"}), "train.csv")
    assert run("train", "--data", "train.csv", "--encoder", tiny, *OPTIONS)[0] == 0
    page = Path("model/report.html").read_text("utf-8")
    assert "<script" not in page
    assert "<img src=x" not in page
    assert html.escape("<script>alert(") in page
    assert "Most confident mistakes" in page
    assert "Labels to check" in page
    for name in ("metrics.json", "model.json"):
        assert "<script" not in Path("model", name).read_text("utf-8")
    code, *_ = run("train", "--data", "train.csv", "--encoder", tiny, *OPTIONS, "--no-examples")
    assert code == 0
    page = Path("model/report.html").read_text("utf-8")
    assert "alert" not in page
    assert "Most confident mistakes" not in page


def test_the_report_says_what_to_know_of_the_data(run, tiny):
    frame = comments(64)[["comment", "toxic"]]
    frame.loc[5] = frame.loc[4]  # a copy of a row, and one with the other label
    frame.loc[9] = [frame.loc[8, "comment"], 1 - frame.loc[8, "toxic"]]
    frame.loc[20, "comment"] = "a film " * 60
    write_table(frame, "train.csv")
    write_table(frame[:6], "test.csv")
    arguments = ["--data", "train.csv", "--test", "test.csv", "--encoder", tiny, *OPTIONS]
    assert run("train", *arguments)[0] == 0
    metrics = json.loads(Path("model/metrics.json").read_text("utf-8"))
    data = metrics["data"]
    assert (data["n_duplicates"], data["n_contradictions"]) == (2, 1)
    assert data["n_in_both"] == 6
    assert data["n_longer"] == 1
    assert 0 < metrics["unread"] < 0.2
    page = Path("model/report.html").read_text("utf-8")
    assert "6 test rows have a text that is also a training text" in page
    assert "1 training texts are longer than the limit (truncate)" in page


# Languages


SCRIPTS = {
    "한국어": ["정말 재미있는 영화였어요 {}", "배우들의 연기가 좋았다 {}"],
    "العربية": ["كان الفيلم رائعا حقا {}", "لم يعجبني هذا الفيلم {}"],
    "🙂 mixed": ["🎬👍🏽 très bon 映画 фильм {}", "👩‍👩‍👧‍👦 ‮weird‬ naïve e\u0301 {}"],
}


def make_byte_encoder(folder: Path) -> Path:
    """Write a tiny encoder whose tokens are bytes: it reads any script, 40 bytes at a time."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

    torch.manual_seed(1)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {c: i for i, c in enumerate([*special, *pre_tokenizers.ByteLevel.alphabet()])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = ["bos_token", "pad_token", "eos_token", "unk_token", "mask_token"]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        cls_token="<s>",
        sep_token="</s>",
        **dict(zip(names, special, strict=True)),
    ).save_pretrained(folder)
    model = XLMRobertaModel(
        XLMRobertaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=42,
            type_vocab_size=1,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:  # random weights leave all vectors nearly alike
                parameter.mul_(8)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("form", ["csv", "tsv.gz", "jsonl", "parquet"])
def test_any_script_from_file_to_report(run, tmp_path, capsys, form):
    encoder = str(make_byte_encoder(tmp_path / "multilingual"))
    windows = ["--encoder", encoder, "--long-text", "windows", "--pooling", "mean"]
    capsys.readouterr()  # transformers' bar
    rows = [
        {"text": text.format(i), "label": label}
        for i in range(16)
        for label, texts in SCRIPTS.items()
        for text in texts
    ]
    frame = pd.DataFrame(rows)
    write_table(frame, f"train.{form}")
    code, out, err = run("train", "--data", f"train.{form}", *windows, *OPTIONS)
    assert (code, err) == (0, "")
    assert "한국어: 24" in out
    metrics = json.loads(Path("model/metrics.json").read_text("utf-8"))
    assert metrics["accuracy"] > 0.9
    assert set(metrics["per_class"]) == set(SCRIPTS)
    page = Path("model/report.html").read_text("utf-8")
    assert all(label in page for label in SCRIPTS)
    code, *_ = run(
        "classify", "--model", "model", "--data", f"train.{form}", "--out", f"out.{form}"
    )
    assert code == 0
    found = read_table(f"out.{form}", header="sv" in form or None).frame
    assert found["text"].tolist() == frame["text"].tolist()
    assert (found["prediction"] == frame["label"]).mean() > 0.9
    code, *_ = run("embed", "--data", f"train.{form}", *windows, "--out", "x.npy",
                   "--label-column", "label")  # fmt: skip
    assert code == 0
    vectors = np.load("x.npy")
    assert len(np.unique(vectors.round(6), axis=0)) == len(frame)  # no two texts look the same
