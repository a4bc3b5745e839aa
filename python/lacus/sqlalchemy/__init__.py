"""A dialect of SQLAlchemy for servers of Lacus.

>>> import sqlalchemy
>>> engine = sqlalchemy.create_engine("lacus://127.0.0.1:50051")
"""

from __future__ import annotations

from lacus.sqlalchemy._dialect import LacusDialect
from lacus.sqlalchemy._types import DURATION, INTERVAL, MAP, STRUCT, TINYINT, UNSIGNED

__all__ = ["DURATION", "INTERVAL", "MAP", "STRUCT", "TINYINT", "UNSIGNED", "LacusDialect"]
