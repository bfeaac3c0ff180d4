"""Train with a budget whose second step never ends, for a test that kills this process.

Arguments: the encoder, the folder, and "slow" or "fast" for the second step.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace

from frozenbert import make_text_classifier
from frozenbert.training import save_training, train
from frozenbert.training.budget import spending
from frozenbert.training.budget.candidates import Characters, Material, Member

from budgets import FACTS, spelled  # isort: skip  # beside this file


@dataclass(frozen=True)
class Slow(Characters):
    name: str = "slow"
    seconds: float = 0.0

    def sized(self, material: Material, seconds: float) -> tuple[Slow, float]:
        return self, 0.0

    def run(self, material: Material) -> Member:
        (material.scratch / "began").touch()
        time.sleep(self.seconds)
        return replace(super().run(material), transformer=super().run(material).transformer)


def main() -> None:
    encoder, folder, speed = sys.argv[1:]
    spending.CANDIDATES = (Characters(), Slow(seconds=600.0 if speed == "slow" else 0.0))
    texts, labels = spelled(80)
    model = make_text_classifier(encoder, C=0.1, cv=2, cache_dir=None, max_length=4, progress=False)
    training = train(
        model,
        texts[:60],
        labels[:60],
        texts[60:],
        labels[60:],
        budget="10m",
        folder=folder,
        on_step=lambda step, left: print(step["step"], step.get("seconds"), flush=True),
    )
    save_training(training, folder, FACTS)


if __name__ == "__main__":
    main()
