"""`durablejobs worker --reload`: for development, the worker starts again when its code has changed."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from .errors import Refusal
from .terminal import say

if TYPE_CHECKING:
    from ..worker import Worker

log: Final = logging.getLogger("durablejobs.worker")

LOOK_EVERY: Final = 0.5
"""Seconds between two looks at the files."""
_INSTALLED: Final = ("site-packages", "dist-packages")


class CodeWatch:
    """Looks at the Python files below the working directory, and at those that were imported from elsewhere.

    What is installed is left out: it does not change while somebody works on his own code.
    """

    def __init__(self) -> None:
        self._directory = Path.cwd()
        self._seen = self._times()
        self.has_changed = False
        """Whether the program is to start again."""

    def drain_on_change(self, worker: Worker) -> None:
        """From now on ask this worker to end as soon as something has changed."""
        threading.Thread(target=self._look, args=(worker,), name="durablejobs-reload", daemon=True).start()

    def _look(self, worker: Worker) -> None:
        self.wait()
        if not worker.stop_requests:
            self.has_changed = True
            log.info("starting again when the running jobs have ended")
            worker.drain()

    def wait(self) -> None:
        """Return when a file has changed."""
        while not (changed := self._changed()):
            time.sleep(LOOK_EVERY)
        for path in changed:
            _forget_compiled(path)
        log.info("%s has changed", os.path.relpath(changed[0], self._directory))

    def _changed(self) -> list[str]:
        """Return the files that were changed, removed, or added below the working directory."""
        before, self._seen = self._seen, self._times()
        changed = [path for path in before if self._seen.get(path) != before[path]]
        return changed + [path for path in self._seen if path not in before and self._is_near(path)]

    def _is_near(self, path: str) -> bool:
        return Path(path).is_relative_to(self._directory)

    def _times(self) -> dict[str, int]:
        times = {}
        for path in {*self._below(), *_imported()}:
            with suppress(OSError):  # it was removed just now
                times[path] = os.stat(path).st_mtime_ns
        return times

    def _below(self) -> Iterator[str]:
        for directory, names, files in os.walk(self._directory):
            names[:] = [name for name in names if not _is_foreign(Path(directory, name))]
            yield from (os.path.join(directory, name) for name in files if name.endswith(".py"))


def _forget_compiled(path: str) -> None:
    """Remove what was compiled of a source: Python knows it by whole seconds and the size, which may be the same."""
    with suppress(OSError, NotImplementedError):  # there is none, or this Python keeps none
        os.unlink(cache_from_source(path))


def _is_foreign(directory: Path) -> bool:
    is_hidden = directory.name.startswith((".", "__")) or directory.name in ("node_modules", *_INSTALLED)
    return is_hidden or (directory / "pyvenv.cfg").exists()


def _imported() -> Iterator[str]:
    library = os.path.dirname(os.__file__)
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if not isinstance(path, str) or not path.endswith(".py") or path.startswith(library):
            continue
        if not any(part in _INSTALLED for part in Path(path).parts):
            yield os.path.abspath(path)


def reloading(work: Callable[[CodeWatch], int]) -> int:
    """Work, and start the program again if the code has changed; code that cannot be imported is waited for."""
    watch = CodeWatch()
    code = 0
    try:
        code = work(watch)
    except Refusal as refusal:
        say(f"durablejobs: {refusal.message}")
        say("waiting for a change of the code")
        watch.wait()
        watch.has_changed = True
    if watch.has_changed:
        _start_again()
    return code


def _start_again() -> NoReturn:
    """Become a new process of this command, under the same process id: threads that still run end here."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os.execv(sys.executable, [sys.executable, "-m", "durablejobs", *sys.argv[1:]])  # noqa: S606 - no shell is wanted
