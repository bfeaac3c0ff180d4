"""The tables of `label.py`, from its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from frozenbert.errors import InputError
from frozenbert.utils.files import writing

BEGIN, END = "<!-- label.py --table -->", "<!-- end of the table -->"
SHOWN = (20, 50, 100, 200, 500, 1000)

Figures = dict[str, dict[str, dict[str, Any]]]  # by data and way


def read(folder: Path) -> Figures:
    """Return what was measured, by data and way."""
    found: Figures = {}
    for path in sorted(folder.glob("*.json")):
        one = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(one["data"], {})[one["way"]] = one
    return found


def to_markdown(figures: Figures, titles: Mapping[str, str]) -> str:
    """Return a table for each data set, then the estimate, the advice and the savings."""
    if not figures:
        raise InputError("nothing is measured yet.")
    lines: list[str] = []
    for name, title in titles.items():
        if name in figures:
            lines += [f"### {title}", "", *_accuracies(figures[name]), ""]
    lines += ["### Labels saved", "", *_savings(figures, titles), ""]
    lines += ["### The estimate and the advice", "", *_estimates(figures, titles)]
    machines = {one["machine"]["cpu"] for ways in figures.values() for one in ways.values()}
    lines += ["", f"CPU: {', '.join(sorted(machines))}."]
    return "\n".join(lines)


def replace(path: Path, table: str) -> None:
    """Write the tables between the marks of a page."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(f"{path}: needs one line {BEGIN} and after it one line {END}.")
    before, rest = text.split(BEGIN)
    with writing(path) as temporary:
        temporary.write_text(
            f"{before}{BEGIN}\n\n{table}\n\n{END}{rest.split(END)[1]}", encoding="utf-8"
        )


def curve(one: Mapping[str, Any], draws: set[str] | None = None) -> dict[int, float]:
    """Return the mean accuracy by the number of labels, of the steps that all draws have."""
    chosen = [d["steps"] for name, d in one["draws"].items() if draws is None or name in draws]
    common = set.intersection(*(set(steps) for steps in chosen)) if chosen else set()
    return {int(n): float(np.mean([s[n] for s in chosen])) for n in sorted(common, key=int)}


def difference(one: Mapping[str, Any], other: Mapping[str, Any], n: int) -> tuple[float, float]:
    """Return the mean difference of accuracy over common draws, and its 95 % half-width."""
    pairs = [
        d["steps"][str(n)] - other["draws"][name]["steps"][str(n)]
        for name, d in one["draws"].items()
        if name in other["draws"]
        and str(n) in d["steps"]
        and str(n) in other["draws"][name]["steps"]
    ]
    if len(pairs) < 2:
        return (pairs[0] if pairs else float("nan")), float("nan")
    half = student.ppf(0.975, len(pairs) - 1) * np.std(pairs, ddof=1) / np.sqrt(len(pairs))
    return float(np.mean(pairs)), float(half)


def labels_needed(points: Mapping[int, float], accuracy: float) -> float | None:
    """Return the labels at which a curve first reaches an accuracy, None if it does not.

    Between two steps, the curve is a line over the logarithm of the labels.
    """
    last: tuple[int, float] | None = None
    for n, value in points.items():
        if value >= accuracy:
            if last is None or value == last[1]:
                return float(n)
            share = (accuracy - last[1]) / (value - last[1])
            return float(np.exp(np.log(last[0]) + share * (np.log(n) - np.log(last[0]))))
        last = (n, value)
    return None


def _accuracies(ways: Mapping[str, dict[str, Any]]) -> list[str]:
    random = ways.get("random")
    points = {way: curve(one) for way, one in ways.items()}
    shown = [n for n in SHOWN if any(n in each for each in points.values())]
    lines = [
        f"| way | draws | {' | '.join(f'{n:,}' for n in shown)} |",
        f"|---|--:|{'--:|' * len(shown)}",
    ]
    order = sorted(
        ways, key=lambda way: ("random", "ours").index(way) if way in ("random", "ours") else 2
    )
    for way in order:
        cells = []
        for n in shown:
            if n not in points[way]:
                cells.append("")
                continue
            cell = f"{100 * points[way][n]:.1f}"
            if random is not None and way != "random":
                mean, half = difference(ways[way], random, n)
                cell += f" ({100 * mean:+.1f}" + ("" if np.isnan(half) else f" ± {100 * half:.1f}")
                cell += ")"
            cells.append(cell)
        lines.append(f"| {way} | {len(ways[way]['draws'])} | {' | '.join(cells)} |")
    if random is not None:
        full = np.mean([draw["full"] for draw in random["draws"].values()])
        lines += ["", f"All labels of the pool: {100 * full:.1f}."]
    return lines


def _savings(figures: Figures, titles: Mapping[str, str]) -> list[str]:
    ways = [way for way in dict.fromkeys(w for f in figures.values() for w in f) if way != "random"]
    means: dict[str, list[float]] = {way: [] for way in ways}
    lines = [f"| data | {' | '.join(ways)} |", f"|---|{'--:|' * len(ways)}"]
    for name in titles:
        if "random" not in figures.get(name, {}):
            continue
        cells = []
        for way in ways:
            saved = _saved(figures[name], way)
            if saved is not None:
                means[way].append(saved)
            cells.append("" if saved is None else f"{100 * saved:.0f} %")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    cells = [f"{100 * np.mean(means[way]):.0f} %" if means[way] else "" for way in ways]
    return [
        "Labels that a way needs less than random for the accuracy that random has with 50, 100, "
        "200, 500 and 1,000, on average. More labels than random are negative; a way that does "
        "not get there within its steps counts as 0 %.",
        "",
        *lines,
        f"| **mean** | {' | '.join(cells)} |",
    ]


def _saved(ways: Mapping[str, dict[str, Any]], way: str) -> float | None:
    if way not in ways:
        return None
    common = set(ways[way]["draws"]) & set(ways["random"]["draws"])
    if not common:
        return None
    mine, random = curve(ways[way], common), curve(ways["random"], common)
    saved = []
    for n in SHOWN[1:]:
        if n in random:
            needed = labels_needed(mine, random[n])
            saved.append(0.0 if needed is None else 1 - needed / n)
    return float(np.mean(saved)) if saved else None


def _estimates(figures: Figures, titles: Mapping[str, str]) -> list[str]:
    lines = [
        "The estimate is right if the model's accuracy on the whole pool is in its 95 % interval. "
        "“Short of” is the accuracy with all labels less the accuracy where the advice is first "
        "to stop.",
        "",
        "| data | estimates | in the interval | half-width at 200 | told to stop | after labels "
        "| short of all labels |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    all_in: list[bool] = []
    for name in titles:
        ours = figures.get(name, {}).get("ours")
        if ours is None:
            continue
        shown = [one for draw in ours["draws"].values() for one in draw["estimates"]]
        inside = [one["estimate"][1] <= one["pool"] <= one["estimate"][2] for one in shown]
        all_in += inside
        widths = [(one["estimate"][2] - one["estimate"][1]) / 2 for one in shown if one["n"] == 200]
        stops = [(seed, draw["stopped"]) for seed, draw in ours["draws"].items() if draw["stopped"]]
        random = figures[name].get("random", {"draws": {}})["draws"]
        short = [random[seed]["full"] - stop["accuracy"] for seed, stop in stops if seed in random]
        cells = [
            name,
            str(len(shown)),
            f"{100 * np.mean(inside):.0f} %" if inside else "",
            f"± {100 * np.mean(widths):.0f}" if widths else "",
            f"{len(stops)} of {len(ours['draws'])}",
            f"{np.mean([stop['n'] for _, stop in stops]):.0f}" if stops else "",
            f"{100 * np.mean(short):.1f} points" if short else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if all_in:
        lines += ["", f"In all: {100 * np.mean(all_in):.0f} % of {len(all_in)} estimates."]
    return lines
