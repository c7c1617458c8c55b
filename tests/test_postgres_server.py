"""The PostgreSQL server that the processes of one test session share."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import make_url

pytest.importorskip("psycopg")

from . import postgres

pytestmark = pytest.mark.slow


@pytest.mark.skipif(postgres.GIVEN is not None, reason="the server is not ours")
def test_whoever_started_it_may_end_before_the_others_and_it_ends_with_the_last_one() -> None:
    with postgres.server(uuid4().hex) as url:
        directory = Path(str(make_url(url).query["host"])).parent
        other = os.open(directory / "users", os.O_RDWR)
        fcntl.flock(other, fcntl.LOCK_SH)
    with postgres.admin(url) as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
    os.close(other)
    give_up = time.monotonic() + postgres.PATIENCE
    while directory.exists():
        assert time.monotonic() < give_up, "it goes on for nobody"
        time.sleep(0.02)
