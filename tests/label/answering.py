"""Answer texts of a project until killed: prints each answer's id once it is stored."""

import sys

from frozenbert.label import Session

folder, n = sys.argv[1], int(sys.argv[2])
texts = [f"text {i}" for i in range(n)]
session = Session(texts, ["good", "bad"], folder=folder, learn=False)
session.set_address("http://127.0.0.1:8123")
print("ready", flush=True)
for turn in range(n):
    item = session.next()
    if item is None:
        break
    print("begun", item.id, flush=True)
    session.answer(item.id, "good" if turn % 2 else "bad", answer_id=f"answer-{item.id}")
    print("done", item.id, flush=True)
print("all", flush=True)
sys.stdin.read()
