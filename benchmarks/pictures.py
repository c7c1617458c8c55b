"""The pictures: throughput by system, latency, cost against history, worker scaling. SVG and PNG."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

OURS, LIMIT, OTHERS, NOT_KEEPING = "#1f6feb", "#57606a", "#9fb3c8", "#e0b070"


def pyplot() -> Any | None:
    """Return matplotlib's pyplot in the style of all our pictures; None without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        return None
    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "durablejobs", "font.size": 10, "axes.spines.top": False})
    mpl.rcParams["axes.spines.right"] = False
    import matplotlib.pyplot as plt

    return plt


def draw(results: dict[str, Any], directory: Path) -> list[str]:
    """Draw what was measured; return the names of the pictures. Without matplotlib: none."""
    plt = pyplot()
    if plt is None:
        return []
    series = results["series"]
    chosen = {
        "throughput": "peers",
        "postgres": "postgres_peers",
        "latency": "latencies",
        "history": "history",
        "workers": "workers",
    }
    drawn = []
    for name, source in chosen.items():
        if source not in series:
            continue
        plot = plt.figure(figsize=(8, 4.5), layout="constrained")
        _PAINTERS[name](plot, series)
        machine = results["machine"]
        made = f"{machine['cpu']}, {machine['cores']} cores, {machine['date']}, --{results['mode']}"
        plot.supxlabel(made, x=0.99, ha="right", size=6, color="gray")
        full_name = f"{name}-{results['mode']}"
        plot.savefig(directory / f"{full_name}.svg", metadata={"Date": None})
        plot.savefig(directory / f"{full_name}.png", dpi=110)
        plt.close(plot)
        drawn.append(full_name)
    return drawn


def _throughput(plot: Any, series: dict[str, Any]) -> None:
    axes = plot.subplots()
    _bars(axes, series["peers"])
    axes.set_xlabel("no-op jobs a second, one worker (logarithmic); orange: loses the job of a killed worker")
    axes.set_title("Draining a queue")


def _postgres(plot: Any, series: dict[str, Any]) -> None:
    axes = plot.subplots()
    _bars(axes, series["postgres_peers"])
    axes.set_xlabel("no-op jobs a second, one worker (logarithmic)")
    axes.set_title("Draining a queue on PostgreSQL")


def _bars(axes: Any, records: list[dict[str, Any]]) -> None:
    bars = []
    for record in records:
        if record["drain"]:
            is_ours = record["name"].startswith("durablejobs")
            color = OURS if is_ours else OTHERS if record["keeps_jobs"] else NOT_KEEPING
            label = record["name"] + ("" if record["dispatches"] else " (bare loop)")
            bars.append((statistics.median(record["drain"]), label, color))
        if record["raw"]:
            bars.append((statistics.median(record["raw"]), "raw loop, batches of 100", LIMIT))
    bars.sort()
    rates, labels, colors = zip(*bars, strict=True)
    axes.barh(labels, rates, color=colors)
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / 3, max(rates) * 4)
    for place, rate in enumerate(rates):
        axes.text(rate * 1.08, place, f"{rate:,.0f}", va="center", size=9)
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _latency(plot: Any, series: dict[str, Any]) -> None:
    axes = plot.subplots()
    _curve(axes, series["latencies"], "durablejobs", OURS, 2.5)
    for record in series.get("peers", []):
        if record["latencies"] and record["name"] != "durablejobs":
            _curve(axes, record["latencies"], record["name"], None, 1.0)
    axes.set_xscale("log")
    for share, milliseconds in ((0.5, 3), (0.99, 15)):
        axes.plot([milliseconds], [share], "|", color="#c2410c", markersize=14, markeredgewidth=2)
        promise = f"promised: {share:.0%} within {milliseconds} ms"
        axes.annotate(promise, (milliseconds, share), (8, -12), textcoords="offset points", size=8, color="#c2410c")
    axes.set_xlim(min(series["latencies"]) / 1.3, max(40, axes.get_xlim()[1]))
    axes.xaxis.set_major_formatter("{x:g}")
    if (
        axes.get_xlim()[1] < 100
    ):  # less than two decades: the steps between are wanted too, in a longer one they collide
        axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "235" else "")
    axes.set_xlabel("milliseconds from enqueue to the handler's start, idle worker in another process (logarithmic)")
    axes.set_ylabel("share of the jobs")
    axes.set_ylim(0, 1.04)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower right")
    axes.set_title("How soon a job starts")


def _curve(axes: Any, values: list[float], label: str, color: str | None, width: float) -> None:
    shares = [(place + 1) / len(values) for place in range(len(values))]
    axes.plot(sorted(values), shares, label=f"{label}, n={len(values)}", color=color, linewidth=width)


def _history(plot: Any, series: dict[str, Any]) -> None:
    left, right = plot.subplots(1, 2)
    points = series["history"]
    sizes = [point["finished"] for point in points]
    left.plot(sizes, [statistics.median(point["drain"]) for point in points], "o-", color=OURS, label="in this file")
    empty = [statistics.median(point["drain_empty"]) for point in points]
    left.plot(sizes, empty, "o--", color=LIMIT, label="in an empty file")
    left.set_ylim(0, 1.15 * left.get_ylim()[1])
    left.set_ylabel("no-op jobs a second")
    left.yaxis.set_major_formatter("{x:,.0f}")
    for key, label in (("list", "list"), ("list_failed", "list --status failed"), ("stats", "stats")):
        right.plot(sizes, [statistics.median(point[key]) for point in points], "o-", label=label)
    right.set_yscale("log")
    right.set_ylabel("milliseconds")
    right.yaxis.set_major_formatter("{x:g}")
    for axes in (left, right):
        axes.set_xscale("symlog", linthresh=max(1000, min(size for size in sizes if size)))
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("finished jobs in the file (logarithmic)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    plot.suptitle("Cost against history")


def _workers(plot: Any, series: dict[str, Any]) -> None:
    axes = plot.subplots()
    found = series["workers"]
    for key, label, color in (("noop", "no-op jobs", OURS), ("burn", "2 ms of CPU a job", "#c2410c")):
        rates = found[key]
        numbers = found["processes"][: len(rates)]
        axes.plot(
            numbers, [rate / rates[0] for rate in rates], "o-", color=color, label=f"{label}: {rates[0]:,.0f}/s by 1"
        )
    axes.axhline(1, color="gray", linewidth=0.8)
    axes.axhline(0.8, color="#c2410c", linewidth=0.8, linestyle=":")
    axes.text(found["processes"][0], 0.78, "promised for no-op jobs: at least 0.8", va="top", size=8, color="#c2410c")
    axes.set_xticks(found["processes"])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("worker processes on one file, one thread each")
    axes.set_ylabel("rate against one process")
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title("Worker scaling")


_PAINTERS = {
    "throughput": _throughput,
    "postgres": _postgres,
    "latency": _latency,
    "history": _history,
    "workers": _workers,
}
