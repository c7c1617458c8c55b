"""The look-out that listens: how it ends."""

from __future__ import annotations

import os
from typing import NoReturn

import psycopg
import pytest

from durablejobs.store.postgres import listening
from durablejobs.store.postgres.listening import Listener


def refuse() -> NoReturn:
    raise psycopg.OperationalError("the server is away")


def test_its_thread_ends_while_it_is_being_closed_and_nobody_writes_into_what_it_has_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listener = Listener(refuse, "channel")
    thread = listener._thread
    write = os.write

    def write_late(descriptor: int, data: bytes) -> int:
        thread.join(2 * listening.FIRST_PAUSE)  # meanwhile it may give back the pipe, if it knows already
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", write_late)
    listener.close()
    assert not thread.is_alive()
