"""Texts from polars and pyarrow, frames for them, and what scikit-learn's settings change."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone

from frozenbert import DistilBertVectorizer, make_text_classifier
from frozenbert.errors import TruncationWarning
from frozenbert.fewshot.classifier import FewShotClassifier

FORMS = {
    "polars Series": lambda pl, pa, texts: pl.Series("text", texts),
    "polars Categorical": lambda pl, pa, texts: pl.Series("text", texts, pl.Categorical),
    "polars DataFrame": lambda pl, pa, texts: pl.DataFrame({"text": texts}),
    "pyarrow Array": lambda pl, pa, texts: pa.array(texts),
    "pyarrow ChunkedArray": lambda pl, pa, texts: pa.chunked_array([texts[:3], texts[3:]]),
    "pyarrow Table": lambda pl, pa, texts: pa.table({"text": texts}),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_columns_of_polars_and_pyarrow(tiny, form):
    polars, pyarrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    texts = [f"{word} film {n}" for n in range(4) for word in ("good", "bad")]
    column, labels = form(polars, pyarrow, texts), ["good", "bad"] * 4
    embed = DistilBertVectorizer(tiny, cache_dir=None)
    expected = embed.fit_transform(texts)
    np.testing.assert_allclose(clone(embed).fit_transform(column), expected, atol=1e-5)
    np.testing.assert_allclose(np.vstack([*embed.transform_iter(column)]), expected, atol=1e-5)
    model = make_text_classifier(tiny, cache_dir=None, C=0.1, cv=2, with_tfidf=True, clean=True)
    fitted = model.fit(column, polars.Series(labels))
    assert (
        fitted.predict(column).tolist() == clone(model).fit(texts, labels).predict(texts).tolist()
    )


def test_a_frame_for_polars(tiny):
    polars = pytest.importorskip("polars")
    embed = DistilBertVectorizer(tiny, cache_dir=None).set_output(transform="polars")
    frame = embed.fit_transform(["a film", "a plot"])
    assert isinstance(frame, polars.DataFrame)
    assert frame.columns == embed.get_feature_names_out().tolist()
    assert frame.schema.dtypes() == [polars.Float32] * 32


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_cleaning_and_frames_warn_of_nothing(tiny, container):
    pytest.importorskip(container)
    texts, labels = ["a good<br>film", "a bad film"] * 3, ["good", "bad"] * 3
    model = make_text_classifier(tiny, cache_dir=None, C=0.1, cv=2, clean=True)
    expected = clone(model).fit(texts, labels).predict_proba(texts)
    model.set_output(transform=container)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*set_output")  # scikit-learn's
        found = model.fit(texts, labels).predict_proba(texts)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"with_tfidf": True}, {"search": "features"}])
def test_routing_of_metadata_does_not_break(tiny, options):
    texts, labels = ["a good film", "a bad film"] * 4, ["good", "bad"] * 4
    model = make_text_classifier(tiny, cache_dir=None, C=0.1, cv=2, **options)
    expected = clone(model).fit(texts, labels).predict(texts).tolist()
    with config_context(enable_metadata_routing=True):
        assert model.fit(texts, labels).predict(texts).tolist() == expected
        few = FewShotClassifier(vectorizer=DistilBertVectorizer(tiny, cache_dir=None), n_experts=2)
        few.fit(texts, labels, ["a film", "a good plot", "a bad plot"])
    assert set(few.predict(texts)) <= {"good", "bad"}


def test_a_warning_of_cut_texts_names_the_line_of_the_user(tiny):
    texts, labels = ["film " * 50, "a bad film"] * 2, ["good", "bad"] * 2
    model = make_text_classifier(tiny, cache_dir=None, C=0.1, cv=2)
    embed = DistilBertVectorizer(tiny, cache_dir=None)
    for call in (
        lambda: model.fit(texts, labels),
        lambda: model.predict(texts),
        lambda: embed.fit(texts),
        lambda: embed.fit_transform(texts),
        lambda: embed.transform(texts),
        lambda: list(embed.transform_iter(texts)),
    ):
        with pytest.warns(TruncationWarning, match="2 of 4 texts are longer than 40") as caught:
            call()
        cut = [warning for warning in caught if warning.category is TruncationWarning]
        assert {warning.filename for warning in cut} == {__file__}
