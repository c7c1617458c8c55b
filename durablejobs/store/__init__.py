"""The rows and everything that touches them: the only home of SQL.

`Store` has a door for each kind of caller (`doors/`); each method of a door is one transaction. Statement functions
take a connection and never open a transaction, so that a user who enqueues in his own transaction calls the same ones.
"""

from .store import Store

__all__ = ["Store"]
