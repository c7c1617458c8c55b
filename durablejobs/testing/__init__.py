"""For the tests of applications that use durablejobs: a fresh real database, and what was enqueued into it.

Nothing is simulated. Jobs are rows in a SQLite file, `drain()` is a worker, `crash_worker()` kills a process. With
pytest the fixtures `durablejobs_kit` and `durablejobs_app` are there without an import: see `pytest_plugin`.
"""

from .clock import ManualClock
from .kit import JobsKit

__all__ = ["JobsKit", "ManualClock"]
