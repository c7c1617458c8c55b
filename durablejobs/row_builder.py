"""The row of a new job: what its enqueue, its handler and the app's defaults say, and its checked arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from .arguments import encode_json
from .clock import from_text, to_text
from .config import JobDefaults, checked_name
from .enqueue_options import EnqueueOptions
from .errors import ArgumentsError
from .handler_options import HandlerOptions
from .jobs import NewJob
from .registry import HandlerDefinition, Registry
from .statuses import Status

T = TypeVar("T")

_NO_OPTIONS = HandlerOptions()
_PENDING: Final = Status.PENDING.value
_SCHEDULED: Final = Status.SCHEDULED.value


class RowBuilder:
    """Makes the rows of the jobs that are enqueued with one set of options; stores nothing."""

    def __init__(self, registry: Registry, defaults: JobDefaults, options: EnqueueOptions) -> None:
        self._registry = registry
        self._defaults = defaults
        self._options = options
        self.has_unique_rule = options.has_unique_rule
        """Whether the unique key means something else than usual."""
        self._blanks: dict[str, tuple[HandlerDefinition, NewJob]] = {}

    def new_job(self, handler: str, args: Sequence[Any], kwargs: Mapping[str, Any], now: str) -> NewJob:
        """Return the checked row of a job that is enqueued at this time, without storing it."""
        if self.has_unique_rule:
            self._options.unique_rule(now)  # raises what is wrong with it
        definition, blank = self.blank(handler)
        if definition is not None and definition.options.running_key is not None:
            return self._row(definition, self.dated(blank, now), args, kwargs)
        return blank.filled(*self._encoded(definition, args, kwargs), *self._due(now), now)

    def blank(self, handler: str) -> tuple[HandlerDefinition | None, NewJob]:
        """Return the handler, and the row of its jobs but for arguments and times; made once where it cannot change."""
        known = self._blanks.get(handler)
        if known is not None:
            return known
        definition = self._definition(handler)
        blank = self._new_blank(handler, definition)
        if definition is not None and self._options.meta is None:
            self._blanks[handler] = definition, blank
        return definition, blank

    def dated(self, blank: NewJob, now: str) -> NewJob:
        """Return a blank with the times of a job that is enqueued now."""
        return blank.at(*self._due(now), now)

    def rows(self, definition: HandlerDefinition, template: NewJob, items: Iterable[Any]) -> Iterator[NewJob]:
        """Yield the template with the arguments of each item, and the key that they make."""
        return _each(items, partial(self._row, definition, template))

    def arguments(self, definition: HandlerDefinition | None, items: Iterable[Any]) -> Iterator[tuple[str, str]]:
        """Yield the checked args and kwargs of each item."""
        return _each(items, partial(self._encoded, definition))

    def _definition(self, handler: str) -> HandlerDefinition | None:
        checked_name(handler, "handler")
        if self._options.check and len(self._registry):
            return self._registry.get(handler)
        return self._registry.find(handler)

    def _new_blank(self, handler: str, definition: HandlerDefinition | None) -> NewJob:
        chosen, defaults = self._options, self._defaults
        own = definition.options if definition is not None else _NO_OPTIONS
        return NewJob(
            handler=handler,
            queue=chosen.queue or own.queue or defaults.queue,
            args="",
            kwargs="",
            status="",
            priority=_first(chosen.priority, own.priority, defaults.priority),
            run_at="",
            max_attempts=_first(chosen.max_attempts, own.max_attempts, defaults.max_attempts),
            unique_key=chosen.unique_key,
            running_key=handler if own.max_running is not None else None,
            timeout=None if chosen.timeout is None else float(chosen.timeout),
            meta="{}" if chosen.meta is None else encode_json(dict(chosen.meta), "meta", defaults.args_limit),
            created_at="",
        )

    def _due(self, now: str) -> tuple[str, str]:
        """Return the status of a job that is enqueued at this time, and its `run_at`."""
        if self._options.is_due_at_once:
            return _PENDING, now
        run_at = to_text(self._options.due(from_text(now)))
        return _PENDING if run_at <= now else _SCHEDULED, run_at

    def _encoded(
        self, definition: HandlerDefinition | None, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[str, str]:
        if definition is not None:
            definition.check_arguments(args, kwargs)
        limit = self._defaults.args_limit
        return encode_json(args, "args", limit), encode_json(kwargs, "kwargs", limit) if kwargs else "{}"

    def _row(
        self, definition: HandlerDefinition, template: NewJob, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> NewJob:
        """Return the template with these arguments and the key that they make."""
        row = template.with_arguments(*self._encoded(definition, args, kwargs))
        limit = definition.running_limit
        return row if limit is None else row._replace(running_key=limit.key_of(args, kwargs))


def _first(*values: int | None) -> int:
    return int(next(value for value in values if value is not None))  # of an IntEnum too: drivers want plain ones


def _each(items: Iterable[Any], make: Callable[[Sequence[Any], Mapping[str, Any]], T]) -> Iterator[T]:
    """Yield what is made of each item; an error says which one it was."""
    for index, item in enumerate(items):
        try:
            yield make(*_split(item))
        except ArgumentsError as error:
            raise ArgumentsError(f"item {index}", str(error)) from None


def _split(item: object) -> tuple[Sequence[Any], Mapping[str, Any]]:
    if isinstance(item, Mapping):
        for key in item:
            if not isinstance(key, str):
                raise ArgumentsError("", f"the key {key!r} is {type(key).__name__}, names of kwargs are strings")
        return (), item
    if isinstance(item, list | tuple):
        return item, {}
    raise ArgumentsError("", f"must be a list or tuple of args or a dict of kwargs, not {type(item).__name__}")
