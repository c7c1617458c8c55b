"""The rows and everything that touches them: the only home of SQL.

`Store` is the door; each of its methods is one transaction. Statement functions take a connection and never open
a transaction, so that a user who enqueues in his own transaction calls the same ones.
"""

from .store import Store, Turn

__all__ = ["Store", "Turn"]
