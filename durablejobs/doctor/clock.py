"""The clock: does it agree with what the rows and the files say?"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from ..store import Store
from .files import Files
from .findings import Finding, advice, ok

BUILT: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""It is certainly later than this."""
_TOLERANCE: Final = timedelta(seconds=5)
_CHECK: Final = "clock"


def check_clock(store: Store, files: Files) -> Finding:
    """Compare the time of day with the newest moments on record."""
    now = store.clock.now()
    if now < BUILT:
        return _ahead(f"it is {now:%Y-%m-%d %H:%M} by this machine's clock")
    newest = {
        "the newest job was created": store.checks.newest_job(),
        "a worker's heart has beaten": max((each.heartbeat_at for each in store.workers.records()), default=None),
        "the log was written": _modified(files),
    }
    for what, moment in newest.items():
        if moment is not None and moment > now + _TOLERANCE:
            ahead = (moment - now).total_seconds()
            return _ahead(f"{what} {ahead:,.0f} s in the future, at {moment:%Y-%m-%d %H:%M:%S} UTC")
    return ok(_CHECK, f"{now:%Y-%m-%d %H:%M:%S} UTC, nothing on record is in the future")


def _ahead(what: str) -> Finding:
    return advice(
        _CHECK,
        what,
        "The clock is wrong now, or was then. Scheduled jobs come due by the time of day: too late after it was set "
        "back. No worker is taken for dead because of it.",
        "Let the machine keep its time (chrony, systemd-timesyncd); `durablejobs list --status scheduled` shows what "
        "waits, `durablejobs retry ID` runs it now.",
    )


def _modified(files: Files) -> datetime | None:
    try:
        modified = files.beside("-wal").stat().st_mtime
    except OSError:
        return None
    # A file's time is the kernel's; the store's clock may be another one.
    return datetime.fromtimestamp(modified, UTC) if modified > time.time() else None
