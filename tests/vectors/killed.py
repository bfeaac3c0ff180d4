"""Kill runs at random moments, and check what the cache then holds.

    python tests/vectors/killed.py ENCODER FOLDER KILLS SEED

Each run is a fork of this process, which has loaded the encoder and computed nothing, so a
run takes a fraction of a second. It logs each batch that it computes before the batch is
stored. After each kill: vectors that were stored before still are, bit for bit, and were not
computed again; no vector is wrong; at most one batch per stream is lost. Prints the figures as
one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from frozenbert import DistilBertVectorizer
from frozenbert.encoders.encoder import Encoder
from frozenbert.encoders.threads import usable_cores
from frozenbert.vectors.cache import VectorCache

WORDS = [
    "a",
    "good",
    "bad",
    "film",
    "movie",
    "plot",
    "actor",
    "scene",
    "is",
    "was",
    "not",
    "very",
    "great",
    "fine",
    "dull",
    "slow",
    "fun",
]
N_TEXTS = 300
BATCH_TOKENS = 60


def main() -> None:
    encoder, root, n_kills, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    warnings.simplefilter("error")
    chance = random.Random(seed)
    texts = [" ".join([str(i), *chance.choices(WORDS, k=i % 9)]) for i in range(N_TEXTS)]
    log = root / "computed"
    slow_down_and_log(log)

    embed = DistilBertVectorizer(
        encoder, max_batch_tokens=BATCH_TOKENS, progress=False, cache_dir=root / "undisturbed"
    ).fit(texts)
    started = time.perf_counter()
    assert run(embed, texts, log) is None
    duration = time.perf_counter() - started
    expected = stored(embed, texts)
    assert not np.isnan(expected).any()
    n_streams = usable_cores()

    kills = finished = most_lost = 0
    caches = 0
    while kills < n_kills:
        caches += 1
        embed.set_params(cache_dir=root / f"cache{caches}")
        before = stored(embed, texts)
        while np.isnan(before).any():
            computed = run(embed, texts, log, kill_after=chance.uniform(0, duration))
            finished += computed is None
            kills += computed is not None
            computed = read_log(embed, log)
            now = stored(embed, texts)
            there, were = ~np.isnan(now[:, 0]), ~np.isnan(before[:, 0])
            assert there[were].all(), "a stored vector is gone"
            assert now[were].tobytes() == before[were].tobytes(), "a stored vector has changed"
            assert np.abs(now[there] - expected[there]).max(initial=0) <= 1e-5, "a vector is wrong"
            rows = [[row_of(embed, texts, key) for key in batch] for batch in computed]
            assert not were[[row for batch in rows for row in batch]].any(), "computed twice"
            lost = sum(not there[batch].all() for batch in rows)
            most_lost = max(most_lost, lost)
            assert lost <= n_streams, f"{lost} batches were lost"
            before = now
    assert run(embed, texts, log) is None
    assert np.abs(stored(embed, texts) - expected).max() <= 1e-5
    print(json.dumps({"kills": kills, "runs_that_ended": finished, "most_lost": most_lost}))


def run(embed, texts, log, kill_after=None):
    """Fork and embed; return the signal that ended the run, or None if it ran to its end."""
    log.write_bytes(b"")
    child = os.fork()
    if not child:
        try:
            embed.transform(texts)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    assert os.WEXITSTATUS(status) == 0
    return None


def slow_down_and_log(log):
    encode = Encoder.encode

    def logged(self, ids, *settings):
        vectors = encode(self, ids, *settings)
        line = json.dumps([np.asarray(row).tolist() for row in ids]) + "\n"
        out = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.write(out, line.encode())
        os.close(out)
        return vectors

    Encoder.encode = logged


def read_log(embed, log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def row_of(embed, texts, ids, known={}):  # noqa: B006
    if not known:
        for row, text in enumerate(texts):
            known[tuple(embed._encoder().tokenizer.split(text, embed.max_length_)[0][0])] = row
        assert len(known) == len(texts)
    return known[tuple(ids)]


def stored(embed, texts):
    """Return what a new process would read: vectors, and NaN where none is stored."""
    from frozenbert.vectors.results import Results, text_keys

    results = Results(text_keys(texts), embed.n_features_out_)
    results.vectors[:] = np.nan
    VectorCache(embed.cache_dir, embed._settings()).read(results)
    return results.vectors


if __name__ == "__main__":
    main()
