"""Which files belong to a database: the one that the user names, and the lock file beside it."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import ConfigurationError
from ..presence import LockFile, use_lock_file


def path_of(target: str | os.PathLike[str]) -> Path:
    """Return the absolute path of what a user names, a path or a SQLAlchemy URL. Raises `ConfigurationError`."""
    text = os.fspath(target)
    if not text:
        raise ConfigurationError("database", "the path is empty; name a file, for example jobs.db")
    if text == ":memory:" or text in ("sqlite://", "sqlite:///:memory:"):
        raise ConfigurationError("database", ":memory: is lost with its process and shared with none; name a file")
    if "://" in text:
        scheme, _, rest = text.partition("://")
        if scheme not in ("sqlite", "sqlite+pysqlite"):
            raise ConfigurationError(
                "database", f"'{scheme}://' is not supported; use a path, sqlite:///path or postgresql+psycopg://"
            )
        text = rest.partition("?")[0].removeprefix("/")
    if "\0" in text:
        raise ConfigurationError("database", "the path has a NUL character")
    return Path(text).absolute()


def use_lock_file_of(database: Path) -> LockFile | None:
    """Return this process's one handle on the database's lock file, to be given back: see `use_lock_file`.

    It lies beside the file itself, not beside a symbolic link to it: all must look at the same seats.
    """
    return use_lock_file(Path(os.path.realpath(database) + "-lock"))
