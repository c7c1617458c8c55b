"""What only PostgreSQL needs: connections over a network, its transactions, its clock, LISTEN, its errors."""

from .database import PostgresDatabase

__all__ = ["PostgresDatabase"]
