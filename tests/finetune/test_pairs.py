"""Contrastive tuning: the pairs, and what becomes of an encoder."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from frozenbert import DistilBertVectorizer
from frozenbert.encoders.sources import find_encoder
from frozenbert.errors import InputError, MissingLibraryError
from frozenbert.finetune import pairs
from frozenbert.finetune.encoder_folder import n_trained_on
from frozenbert.finetune.pairs import LIBRARIES, PairRecipe, draw_pairs, tune_on_pairs

TEXTS = ["a b c", "b c a", "c a b", "d e f", "e f d", "f d e"]
LABELS = np.array(["x", "x", "x", "y", "y", "y"])


def test_pairs_are_of_one_class_and_of_two():
    y = np.array(["a", "b", "b", "c", "c", "c"])
    first, second, same = draw_pairs(y, 600)
    assert (first != second).all()
    assert ((y[first] == y[second]) == same.astype(bool)).all()
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    assert len(pairs) == 6 * 5  # all that exist; the only "a" has none of its own class
    assert (same == 1).sum() == (same == 0).sum() == 300
    assert np.bincount(first[same == 0]).tolist() == [50] * 6
    assert np.bincount(first[same == 1], minlength=6).tolist() == [0, *[60] * 5]
    assert draw_pairs(np.array(["a", "b", "c"]), 30)[2].tolist() == [0.0] * 30
    assert draw_pairs(np.array(["a", "a", "a"]), 30)[2].tolist() == [1.0] * 30


@pytest.mark.slow
def test_texts_of_one_class_come_together(tiny, tmp_path, capfd):
    for library in LIBRARIES:
        pytest.importorskip(library)
    out = tmp_path / "tuned"
    tune_on_pairs(find_encoder(tiny), TEXTS, LABELS, out, PairRecipe(200, lr=1e-3))

    def gap(encoder):
        vectors = DistilBertVectorizer(encoder, cache_dir=None).fit_transform(TEXTS)
        cosines = cosine_similarity(vectors)
        same = LABELS[:, None] == LABELS
        return cosines[same].mean() - cosines[~same].mean()

    assert gap(str(out)) > gap(tiny) + 0.2
    assert [path.name for path in tmp_path.iterdir()] == ["tuned"]
    assert capfd.readouterr() == ("", "")
    before = (out / "model.safetensors").stat().st_mtime_ns
    tune_on_pairs(find_encoder(tiny), TEXTS, LABELS, out, PairRecipe(200, lr=1e-3))
    assert (out / "model.safetensors").stat().st_mtime_ns == before  # the same training
    tune_on_pairs(find_encoder(tiny), TEXTS, LABELS[::-1], out, PairRecipe(16))
    assert (out / "model.safetensors").stat().st_mtime_ns > before
    assert n_trained_on(out, [*TEXTS, "g"]) == len(TEXTS)


def test_what_is_no_encoder_of_ours_stays(tiny, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"contains 'notes.txt' and is not an encoder"):
        tune_on_pairs(find_encoder(tiny), TEXTS, LABELS, tmp_path, PairRecipe(10))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_length_that_the_encoder_cannot_read(tiny, tmp_path):
    recipe = PairRecipe(10, max_length=9999)
    with pytest.raises(InputError, match=r"max_length=9999: encoder .* takes at most"):
        tune_on_pairs(find_encoder(tiny), TEXTS, LABELS, tmp_path / "tuned", recipe)
    assert list(tmp_path.iterdir()) == []


def test_without_its_libraries(tiny, tmp_path, monkeypatch):
    def missing(*libraries, purpose):
        raise MissingLibraryError(f"{purpose} needs {libraries[-1]}")

    monkeypatch.setattr(pairs, "require", missing)
    with pytest.raises(MissingLibraryError, match="contrastive tuning needs sentence_transformers"):
        tune_on_pairs(find_encoder(tiny), TEXTS, LABELS, tmp_path / "tuned", PairRecipe(10))
