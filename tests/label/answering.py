"""Answer texts of a project until killed: prints each answer's id once it is stored."""

from __future__ import annotations

import sys

from frozenbert.label import Session


def main(folder: str, n: int) -> None:
    """Answer `n` texts."""
    texts = [f"text {i}" for i in range(n)]
    session = Session(texts, ["good", "bad"], folder=folder, learn=False)
    session.set_address("http://127.0.0.1:8123")
    print("ready", flush=True)
    turn = 0
    while item := session.next():
        print("begun", item.id, flush=True)
        session.answer(item.id, "good" if turn % 2 else "bad", answer_id=f"answer-{item.id}")
        print("done", item.id, flush=True)
        turn += 1
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
