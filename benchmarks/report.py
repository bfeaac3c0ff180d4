"""Write table, plot and raw figures of a comparison, with the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from pathlib import Path
from typing import Any

from ways import SENTENCE_TRANSFORMERS, TUTORIAL

from frozenbert.utils.files import writing

# The instruction sets that matrix products use.
INSTRUCTIONS = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512bw",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
)
LONGEST_ROW = 1000  # characters
COLUMNS = (
    "library",
    "pooling",
    "median s (fastest, slowest)",
    "texts/s",
    "× sentence-transformers, torch",
    "× tutorial",
    "one text: median ms",
    "p99 ms",
    "largest difference",
    "peak MB",
    "of it above model and result",
)


def machine() -> dict[str, Any]:
    """Describe the machine: CPU, cores, instruction sets, memory, system, load."""
    cpu: dict[str, str] = {}
    if (file := Path("/proc/cpuinfo")).exists():
        lines = (line.partition(":") for line in file.read_text(encoding="utf-8").splitlines())
        cpu = {key.strip(): value.strip() for key, _, value in lines}
    flags = cpu.get("flags", cpu.get("Features", "")).split()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    return {
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "cores": cores,
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "memory_gib": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "load_at_start": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "commit": _commit(),
    }


def write_report(report: dict[str, Any], stem: Path) -> str:
    """Write `stem`.json (raw), .md (table), .png (plot of the speeds); return the table."""
    table = to_markdown(report)
    write_figures(report, stem.with_suffix(".json"))
    with writing(stem.with_suffix(".md")) as temporary:
        temporary.write_text(table + "\n", encoding="utf-8")
    if any(_median(row) for c in report["comparisons"] for row in c["rows"]):
        with writing(stem.with_suffix(".png")) as temporary:
            _plot(report, temporary)
    return table


def write_figures(report: dict[str, Any], path: Path) -> Path:
    """Write raw figures as JSON with one row a line, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path) as temporary:
        temporary.write_text(_json_lines(report) + "\n", encoding="utf-8")
    return path


def _json_lines(value: object, indent: str = "") -> str:
    """Return JSON with a line for each row: what holds no other rows, and is not very long."""
    if not _holds_rows(value):
        line = json.dumps(value)
        if not isinstance(value, dict) or len(line) <= LONGEST_ROW:
            return line
    inner = indent + " "
    if isinstance(value, dict):
        parts = [f"{json.dumps(str(key))}: {_json_lines(of, inner)}" for key, of in value.items()]
        opening, closing = "{}"
    else:
        assert isinstance(value, list)
        parts = [_json_lines(one, inner) for one in value]
        opening, closing = "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{closing}"


def _holds_rows(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_rows, value.values()))
    return isinstance(value, list) and any(isinstance(one, dict | list) for one in value)


def to_markdown(report: dict[str, Any]) -> str:
    """Return the measurements as Markdown."""
    m = report["machine"]
    memory = f"{m['memory_gib']} GiB, " if m["memory_gib"] else ""
    load = f", load at the start {m['load_at_start']:.1f}" if m["load_at_start"] is not None else ""
    lines = [
        f"Measured {report['date']}, {report['rounds']} rounds in turn; medians.",
        "",
        f"Machine: {m['cpu']}, {m['cores']} cores, {memory}{m['system']}{load}; "
        f"{' '.join(m['instructions'])}.",
        "",
    ]
    if m["commit"]:
        lines += [f"frozenbert at commit {m['commit']}.", ""]
    for environment, versions in report["versions"].items():
        listed = ", ".join(f"{name} {version}" for name, version in versions.items())
        lines += [f"Versions ({environment}): {listed}.", ""]
    for comparison in report["comparisons"]:
        lines += [*_table(comparison), ""]
    return "\n".join(lines).rstrip()


def _table(comparison: dict[str, Any]) -> list[str]:
    c = comparison
    lines = [
        f"### {c['encoder']}, {c['n_texts']} {c['kind']}",
        "",
        f"Texts: {c['source']}, {c['mean_tokens']:.0f} tokens on average, the longest "
        f"{c['longest']}. Differences from plain AutoModel, one text at a time, with the same "
        f"pooling; on {c['n_checked']} texts.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---|---" + "|--:" * (len(COLUMNS) - 2) + "|",
    ]
    medians = {row["key"]: _median(row) for row in c["rows"]}
    for row in c["rows"]:
        if "left_out" in row:
            continue
        median = medians[row["key"]]
        peak, above, difference = row.get("peak_mb"), None, row.get("difference")
        if peak is not None:
            above = peak - row["resident_mb"] - row["result_mb"]
        cells = [row["title"], row["pooling"]]
        if median is None:
            cells += [""] * 4
        else:
            cells += [
                f"{median:.3g} ({min(row['seconds']):.3g}, {max(row['seconds']):.3g})",
                f"{c['n_texts'] / median:,.0f}",
                _ratio(medians.get(SENTENCE_TRANSFORMERS), median),
                _ratio(medians.get(TUTORIAL), median),
            ]
        cells += [
            _one_text(row, "median_ms"),
            _one_text(row, "p99_ms"),
            "" if difference is None else f"{difference:.1e}",
            _number(peak),
            _number(above),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    left_out = [row for row in c["rows"] if "left_out" in row]
    lines += [""] if left_out else []
    lines += [f"Left out: {row['title']}: {row['left_out']}" for row in left_out]
    return lines


def _plot(report: dict[str, Any], path: Path) -> None:
    """Draw one panel of bars per comparison: medians, and each round as a dot."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    comparisons = [c for c in report["comparisons"] if any(map(_median, c["rows"]))]
    n_rows = [sum(_median(row) is not None for row in c["rows"]) for c in comparisons]
    figure, panels = plt.subplots(
        len(comparisons),
        squeeze=False,
        figsize=(9, sum(n_rows) * 0.32 + len(comparisons) * 1.1),
        height_ratios=[n + 1 for n in n_rows],
        layout="constrained",
    )
    for axes, c in zip(panels[:, 0], comparisons, strict=True):
        rows = [row for row in c["rows"] if _median(row) is not None]
        names = [f"{row['title']} ({row['pooling']})" for row in rows]
        speeds = [c["n_texts"] / _median(row) for row in rows]
        ours = ["tab:blue" if row["key"].startswith("ours-") else "0.75" for row in rows]
        places = range(len(rows))
        # The warm cache is hundreds of times faster: with it, the other bars would vanish.
        fastest = [c["n_texts"] / min(row["seconds"]) for row in rows if row["key"] != "ours-warm"]
        limit = 1.15 * max(fastest or speeds)
        axes.set_xlim(0, limit)
        axes.barh(places, speeds, color=ours)
        for place, row in zip(places, rows, strict=True):
            dots = [c["n_texts"] / seconds for seconds in row["seconds"]]
            axes.plot(dots, [place] * len(dots), "k.", markersize=4)
            axes.annotate(
                f"{speeds[place]:,.0f}",
                (min(max(dots), limit), place),
                xytext=(5, 0),
                annotation_clip=False,
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axes.set_yticks(places, names, fontsize=8)
        axes.invert_yaxis()
        axes.set_title(f"{c['encoder']}, {c['n_texts']} {c['kind']}", fontsize=9)
        axes.set_xlabel("texts per second", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png", dpi=150)
    plt.close(figure)


def _median(row: dict[str, Any]) -> float | None:
    if "left_out" in row or not row["seconds"]:
        return None
    return float(statistics.median(row["seconds"]))


def _one_text(row: dict[str, Any], name: str) -> str:
    """Return the median over the rounds."""
    values = [run[name] for run in row.get("one_text", ())]
    return f"{statistics.median(values):.1f}" if values else ""


def _ratio(reference: float | None, median: float) -> str:
    if reference is None:
        return ""
    return f"{reference / median:.2f}" if reference / median < 100 else f"{reference / median:,.0f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _commit() -> str | None:
    """Return the commit of the checkout, with "+" if files have changed since."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")
