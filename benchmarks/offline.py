"""A saved model asked in Python, without a server, for serve.py to compare with.

python benchmarks/offline.py MODEL < TEXTS

TEXTS is a JSON list. Prints a line of JSON: seconds of each call with one text, and the seconds
of one call with all texts, three times, after a first call.
"""

from __future__ import annotations

import json
import sys
import time

from frozenbert import load_model
from frozenbert.pipeline import predict

if __name__ == "__main__":
    model = load_model(sys.argv[1])
    texts = json.load(sys.stdin)

    def seconds(asked: list[str]) -> float:
        """Return how long the model takes to answer."""
        begun = time.perf_counter()
        predict(model, asked)
        return time.perf_counter() - begun

    seconds(texts)
    one = [seconds([text]) for text in texts[:300]][-200:]
    print(json.dumps({"one": one, "all": [seconds(texts) for _ in range(3)]}))
