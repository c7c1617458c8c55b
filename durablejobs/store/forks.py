"""After a fork: the child must not use the parent's connections, nor close them."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class _Forgetful(Protocol):
    def forget_after_fork(self) -> None: ...


_open: weakref.WeakSet[_Forgetful] = weakref.WeakSet()


def forget_after_fork(database: _Forgetful) -> None:
    """Have the database start afresh in every forked child."""
    _open.add(database)


def _forget_all() -> None:
    for database in list(_open):
        database.forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
