"""What only SQLite needs: the file, its one writer, the gate before the write lock, the watch on its log."""

from .database import SqliteDatabase

__all__ = ["SqliteDatabase"]
