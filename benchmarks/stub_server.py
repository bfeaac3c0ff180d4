"""`frozenbert serve` with an encoder that computes nothing, for serve.py: the cost of serving.

python benchmarks/stub_server.py MODEL PORT
"""

from __future__ import annotations

import sys

import numpy as np

from frozenbert import DistilBertVectorizer
from frozenbert.serve.process import serve_model


def transform(vectorizer: DistilBertVectorizer, texts: list[str]) -> np.ndarray:
    """Return vectors of zeros."""
    return np.zeros((len(texts), vectorizer.n_features_out_), dtype=np.float32)


if __name__ == "__main__":
    DistilBertVectorizer.transform = transform
    serve_model(sys.argv[1], port=int(sys.argv[2]))
