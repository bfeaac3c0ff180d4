"""`serve`: a model or an encoder, and the parameters that each takes."""

from __future__ import annotations

import pytest

from frozenbert import DistilBertVectorizer
from frozenbert.serve.process import serve_encoder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "one of the arguments --model --encoder is required"),
        (["--model", "a", "--encoder", "b"], "argument --encoder: not allowed with argument --mod"),
        (
            ["--model", "a", "--pooling", "mean"],
            "--pooling: a saved model has its own setting; th",
        ),
        (["--model", "a", "--normalize"], "--normalize: a saved model has its own setting; this"),
        (["--encoder", "tiny", "--encoder-path", "b"], "--encoder-path b: is the place of a saved"),
        (["--encoder", "tiny", "--precision", "auto"], "--precision auto: there are no texts to"),
        (["--encoder", "tiny", "--truncate-dim", "33"], "--truncate-dim 33: the vectors of encod"),
        (["--encoder", "tiny", "--max-texts", "0"], "must be at least 1, not 0"),
        (["--encoder", "All-MiniLM-L6-v2"], "--encoder All-MiniLM-L6-v2: did you mean 'all-MiniL"),
    ],
)
def test_wrong_options(run, options, message):
    code, out, err = run("serve", "--port", 0, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_an_encoder_is_served_with_its_options(succeeds, tiny, monkeypatch):
    served = []
    monkeypatch.setattr("frozenbert.serve.process.run", lambda app, *_: served.append(app))
    options = ["--pooling", "mean", "--prompt", "film ", "--normalize", "--truncate-dim", 8]
    out = succeeds("serve", "--encoder", tiny, "--port", 0, "--max-texts", 5, *options)
    assert "at most 40 tokens, float32, prompt 'film '\n" in out
    assert "/v1 (Ctrl-C stops)\n" in out
    (app,) = served
    service = app.state.service
    embed = service.embedder.vectorizer
    assert (embed.pooling_, embed.prompt_, embed.normalize_) == (("mean",), "film ", True)
    assert (embed.n_features_out_, embed.cache_dir, service.limits.texts) == (8, None, 5)


def test_limits_of_an_encoder_must_be_above_0(tiny):
    with pytest.raises(ValueError, match=r"max_texts=0: must be above 0\."):
        serve_encoder(DistilBertVectorizer(tiny), max_texts=0)
