"""A plain server with one forward pass per request, for benchmarks/serve.py to compare with.

python benchmarks/naive_server.py MODEL PORT {threads,loop}
"""

from __future__ import annotations

import sys

import joblib
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Texts(BaseModel):
    """The body of a request."""

    texts: list[str]


app = FastAPI()


def predict(asked: Texts) -> dict[str, list]:
    """Label texts."""
    probabilities = model.predict_proba(asked.texts)
    predictions = model.classes_[probabilities.argmax(axis=1)]
    return {"predictions": predictions.tolist(), "probabilities": probabilities.tolist()}


async def predict_in_the_loop(asked: Texts) -> dict[str, list]:
    """Label texts in the event loop, one request at a time."""
    return predict(asked)


if __name__ == "__main__":
    path, port, how = sys.argv[1:]
    model = joblib.load(path)
    model.predict(["This first text loads the encoder."])
    app.post("/predict")(predict if how == "threads" else predict_in_the_loop)
    uvicorn.run(app, port=int(port), log_level="warning")
