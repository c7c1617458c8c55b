"""The command line: one file per noun, and one place that turns errors into messages and exit codes.

Nothing here imports SQLAlchemy before a command needs the database, so that `--help` and completion are fast.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command `durablejobs` with the arguments of this process, and exit."""
    try:
        _fill_closed_streams()
        from .root import root

        root.main()
    except KeyboardInterrupt:  # before click could take care of it
        sys.exit(130)


def _fill_closed_streams() -> None:
    """Make sure that 0, 1 and 2 are open: else the database would get such a number, and a stray print would hit it."""
    for stream in (0, 1, 2):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
