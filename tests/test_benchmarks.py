"""The benchmarks run: figures are not tested, machines differ."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run_benchmarks(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--here", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)


def test_a_single_family_writes_its_results(tmp_path: Path) -> None:
    done = run_benchmarks("--only", "drain", "--output", tmp_path / "results", "--dir", tmp_path / "scratch")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results" / "results-smoke.json").read_text())
    assert [row["name"] for row in results["rows"]] == ["drain_1", "drain_4"]
    for row in results["rows"]:
        assert row["verdict"] in ("met", "missed")
        assert row["low"] <= row["value"] <= row["high"]
        assert row["title"] in done.stdout
    assert results["machine"]["sqlite"]
    assert (tmp_path / "results" / "README.md").exists()
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_rows_on_postgresql_are_measured_too(tmp_path: Path) -> None:
    places = ("--output", tmp_path / "results", "--dir", tmp_path / "scratch")
    done = run_benchmarks("--only", "postgres_peers", "postgres_workers", "postgres_backlog", *places)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results" / "results-smoke.json").read_text())
    verdicts = {row["name"]: row["verdict"] for row in results["rows"]}
    assert verdicts["postgres_workers_4"] != "skipped", results["rows"]
    assert verdicts["postgres_backlog"] != "skipped", results["rows"]
    assert verdicts["postgres_latency_p50"] != "skipped", results["rows"]
    assert results["machine"]["postgres"]


@pytest.mark.parametrize(("value", "verdict"), [(0.49, "missed"), (0.5, "met"), (None, "skipped")])
def test_a_row_can_come_out_against_us(value: float | None, verdict: str) -> None:
    from benchmarks.results import Measurement
    from benchmarks.table import table, verdicts

    record = Measurement("drain_1", value).as_record()
    assert record["verdict"] == verdict
    assert ("MISSED" in table([record])) == (verdict == "missed")
    assert ("drain_1" in verdicts([record])) == (verdict == "missed")


def test_an_unknown_row_is_named(tmp_path: Path) -> None:
    done = run_benchmarks("--only", "drian", "--output", tmp_path)
    assert done.returncode == 1
    assert "unknown: drian" in done.stderr
