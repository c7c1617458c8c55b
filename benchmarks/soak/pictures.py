"""The picture of a soak: what its processes and its database held, and how long jobs waited. SVG and PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ..pictures import LIMIT, OTHERS, OURS, pyplot

_WARM: Final = "#c2410c"


def draw(results: dict[str, Any], directory: Path, name: str) -> list[str]:
    """Draw what was measured; return the names of the pictures. Without matplotlib: none."""
    plt = pyplot()
    if plt is None:
        return []
    plot = plt.figure(figsize=(8, 8), layout="constrained")
    (memory, handles), (sizes, queue), (waits, margins) = plot.subplots(3, 2)
    _lines(memory, results, {"worker memory MB": "worker", "client memory MB": "client"}, "resident memory, MB")
    _lines(
        handles,
        results,
        {
            "worker descriptors": "worker, descriptors",
            "worker threads": "worker, threads",
            "client descriptors": "client, descriptors",
            "connections": "all connections",
        },
        "descriptors, threads",
    )
    _lines(sizes, results, {"database MB": "database", "log MB": "write-ahead log"}, "sizes, MB")
    live = {f"jobs {status}": status for status in ("pending", "running", "scheduled")}
    _lines(queue, results, live, "jobs that have not ended")
    _spans(waits, results["waits"])
    _margins(margins, results)
    killed = results["done"].get("workers killed", 0) + results["done"].get("workers killed by a job", 0)
    paused = results["done"].get("workers paused", 0)
    plot.suptitle(
        f"{results['minutes']:g} minutes on {results['database']}: {killed} kills, {paused} pauses of workers"
    )
    machine = results["machine"]
    made = f"{machine['cpu']}, {machine['cores']} cores, {machine['date']}"
    plot.supxlabel(made, x=0.99, ha="right", size=6, color="gray")
    plot.savefig(directory / f"{name}.svg", metadata={"Date": None})
    plot.savefig(directory / f"{name}.png", dpi=110)
    plt.close(plot)
    return [name]


def _lines(axes: Any, results: dict[str, Any], names: dict[str, str], title: str) -> None:
    colors = iter((OURS, _WARM, LIMIT, OTHERS))
    for name, label in names.items():
        points = results["series"].get(name)
        if points:
            moments = [moment / 60 for moment, _ in points]
            axes.plot(moments, [value for _, value in points], label=label, color=next(colors), linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes", size=8)
    axes.set_title(title, size=10)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=7, loc="best")


def _spans(axes: Any, waits: dict[str, dict[str, float]]) -> None:
    """From the median to the 99th percentile, and the longest, by handler."""
    handlers = [handler for handler, each in waits.items() if each["count"]]
    for place, handler in enumerate(handlers):
        each = waits[handler]
        low, high, most = (max(each[name], 0.0005) for name in ("p50", "p99", "most"))
        axes.plot([low, high], [place, place], color=OURS, linewidth=3, solid_capstyle="butt")
        axes.plot([most], [place], "|", color=_WARM, markersize=7)
    axes.set_yticks(range(len(handlers)), handlers, size=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("seconds from due to begun: median to 99 %, | longest", size=8)
    axes.set_title("waits by handler", size=10)
    axes.grid(alpha=0.3, axis="x")


def _margins(axes: Any, results: dict[str, Any]) -> None:
    found = results["margins"]
    names = [name for name in ("least", "p1", "p5", "p25", "p50", "p75", "p95") if name in found]
    axes.bar(names, [found[name] for name in names], color=OURS)
    axes.axhline(0, color="gray", linewidth=0.8)
    axes.set_ylabel(f"seconds left of {results['lease']:g}", size=8)
    axes.set_title("leases when renewed, pauses included", size=10)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3, axis="y")
