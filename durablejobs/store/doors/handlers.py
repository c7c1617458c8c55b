"""What applications tell of their handlers, for those who show jobs and know no handler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...redaction import Redaction
from ...running_limits import RunningLimit
from .. import published_limits
from ..access import Access
from ..hot import run_on
from ..redactions import publish, published
from .door import Door


class Handlers(Door):
    """What is hidden of their arguments, and how many of them may run."""

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self._published: dict[str, Redaction] = {}

    def publish_redactions(self, redactions: Mapping[str, Redaction], given: Any = None) -> None:
        """Note what of handlers' arguments is hidden; in the user's transaction, where one is given."""
        if given is not None:
            with self._database.translated_errors():
                for name, redaction in redactions.items():
                    publish(self._database.run_in(given), name, redaction)
            return
        news = {name: each for name, each in redactions.items() if self._published.get(name) != each}
        if news:
            with self._write() as connection:
                for name, redaction in news.items():
                    publish(run_on(connection), name, redaction)
            self._published |= news

    def publish_limits(self, limits: Mapping[str, RunningLimit], handlers: Sequence[str]) -> None:
        """Note which of these handlers are limited, for those who show jobs; the others of them are not."""
        with self._read() as connection:
            known = published_limits.published(connection)
        wanted: dict[str, published_limits.PublishedLimit] = {
            name: (limit.max_running, limit.template) for name, limit in limits.items()
        }
        wanted |= {name: (None, None) for name in handlers if name in known and name not in wanted}
        news = {name: each for name, each in wanted.items() if known.get(name, (None, None)) != each}
        if news:
            with self._write() as connection:
                published_limits.publish(connection, news)

    def redactions(self) -> dict[str, Redaction]:
        """Return what of which handlers' arguments is hidden."""
        with self._read() as connection:
            return published(connection)
