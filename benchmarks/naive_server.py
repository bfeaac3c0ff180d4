"""A plain FastAPI application around sentence-transformers, for serve.py to compare with.

python benchmarks/naive_server.py ENCODER HEAD PORT

ENCODER is a folder; HEAD a file of NumPy arrays: mean, scale, coef, intercept, classes. Each
request is one forward pass, in a thread of FastAPI's.
"""

from __future__ import annotations

import sys

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Texts(BaseModel):
    """The body of a request."""

    texts: list[str]


app = FastAPI()


@app.post("/predict")
def predict(asked: Texts) -> dict[str, list]:
    """Label texts by a logistic regression of two classes."""
    vectors = encoder.encode(asked.texts, show_progress_bar=False)
    scores = (vectors - head["mean"]) / head["scale"] @ head["coef"][0] + head["intercept"]
    second = 1 / (1 + np.exp(-scores))
    probabilities = np.stack([1 - second, second], axis=1)
    predictions = head["classes"][probabilities.argmax(axis=1)]
    return {"predictions": predictions.tolist(), "probabilities": probabilities.tolist()}


if __name__ == "__main__":
    folder, arrays, port = sys.argv[1:]
    encoder, head = SentenceTransformer(folder, device="cpu"), np.load(arrays)
    predict(Texts(texts=["This first text loads the encoder."]))
    uvicorn.run(app, port=int(port), log_level="warning")
