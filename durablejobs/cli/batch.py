"""`enqueue --batch`: one JSON object a line becomes one job, and all lines are stored or none.

The lines are read and checked first, into a temporary file, and stored afterwards: so the write lock is held for
the storing alone, however slowly the lines come in, and a bad line is found before the database is touched.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import ArgumentsError, DurableJobsError
from ..spelling import nearest
from .errors import ExitCode, Refusal, code_of
from .json_text import BadJSON, parse_json
from .parameters import parse_duration, parse_moment
from .terminal import Advance, progress

if TYPE_CHECKING:
    from ..client import Client
    from ..jobs import EnqueuedBatch, NewJob

KEYS: Final = (
    "handler",
    "args",
    "kwargs",
    "queue",
    "priority",
    "run_at",
    "delay",
    "unique_key",
    "max_attempts",
    "timeout",
)
_OPTIONS: Final = frozenset(KEYS) - {"handler", "args", "kwargs"}
_IN_MEMORY: Final = 16 * 1024 * 1024
"""Bytes of checked jobs that are kept in memory; more go to a temporary file."""


class Batch(NamedTuple):
    """Checked jobs on their way in."""

    rows: IO[str]
    size: int


@contextmanager
def checked_batch(source: str, client: Client, handler: str | None) -> Iterator[Batch]:
    """Yield the checked jobs of a file, or of stdin for `-`. Raises `Refusal` with the line's number and column."""
    now = client.clock.now_text()
    count = 0
    with SpooledTemporaryFile(_IN_MEMORY, "w+", encoding="utf-8", errors="surrogatepass") as rows:
        with _opened(source) as lines, progress("checking") as advance:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rows.write(json.dumps(_checked_line(number, line, client, handler, now)) + "\n")
                    count += 1
                    advance(1)
        rows.seek(0)
        yield Batch(rows, count)


def store_batch(batch: Batch, client: Client) -> EnqueuedBatch:
    """Store all jobs of a batch in one transaction."""
    with progress("storing", batch.size) as advance:
        return client.insert_all(_rows(batch.rows, advance))


def _rows(rows: Iterable[str], advance: Advance) -> Iterator[NewJob]:
    from ..jobs import NewJob

    for row in rows:
        yield NewJob._make(json.loads(row))
        advance(1)


@contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    if source == "-":
        if sys.stdin is None:
            raise Refusal("--batch -: standard input is closed", ExitCode.USAGE)
        yield sys.stdin.buffer
        return
    try:
        file = open(source, "rb")  # noqa: SIM115 - only what opening raises is the user's mistake
    except OSError as error:
        raise Refusal(f"--batch {source}: {error.strerror}", ExitCode.USAGE) from None
    with file:
        yield file


def _checked_line(number: int, line: bytes, client: Client, handler: str | None, now: str) -> NewJob:
    try:
        item = parse_json(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        return _new_job(item, client, handler, now)
    except BadJSON as error:
        column = f", column {error.column}" if error.column is not None else ""
        raise Refusal(f"line {number}{column}: {error.problem}; nothing was stored", ExitCode.USAGE) from None
    except UnicodeDecodeError as error:
        raise Refusal(f"line {number}, byte {error.start + 1}: not UTF-8; nothing was stored", ExitCode.USAGE) from None
    except DurableJobsError as error:
        raise Refusal(f"line {number}: {error}; nothing was stored", code_of(error)) from None


def _new_job(item: Any, client: Client, handler: str | None, now: str) -> NewJob:
    if not isinstance(item, dict):
        raise ArgumentsError("", f'must be an object such as {{"handler": "mail", "args": []}}, not {_kind(item)}')
    for key in item:
        if key not in KEYS:
            near = nearest(key, KEYS)
            raise ArgumentsError("", f"no such key {key!r}; " + (f"did you mean {near}?" if near else ", ".join(KEYS)))
    name = item.get("handler", handler)
    if name is None:
        raise ArgumentsError("", "names no handler, and neither does the command line")
    args = _typed(item, "args", list, [])
    kwargs = _typed(item, "kwargs", dict, {})
    options = {key: _option(key, item[key]) for key in _OPTIONS & item.keys()}
    return _with_options(client, options).new_job(name, args, kwargs, now)


def _with_options(client: Client, options: Mapping[str, Any]) -> Client:
    """Return the client with a line's own options; its time replaces the command line's."""
    if not options:
        return client
    if options.keys() & {"delay", "run_at"}:
        options = {"delay": None, "run_at": None, **options}
    return client.using(**options)


def _typed(item: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    value = item.get(key, default)
    if not isinstance(value, kind):
        wanted = "an array" if kind is list else "an object"
        raise ArgumentsError(key, f"must be {wanted}, not {_kind(value)}")
    return value


def _option(key: str, value: Any) -> Any:
    """Return the value of an option; times and durations may be text."""
    if not isinstance(value, str):
        if key == "run_at" and value is not None:
            raise ArgumentsError(key, f'must be a time such as "2026-01-31T12:00Z", not {_kind(value)}')
        return value
    parse = {"run_at": parse_moment, "delay": parse_duration, "timeout": parse_duration}.get(key)
    try:
        return value if parse is None else parse(value)
    except ValueError as error:
        raise ArgumentsError(key, str(error)) from None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
