"""What there is: schemas, tables, columns and keys, by one query for any number of tables where the server has one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from sqlalchemy import exc
from sqlalchemy.engine import Connection, default, reflection
from sqlalchemy.engine.interfaces import (
    ReflectedColumn,
    ReflectedForeignKeyConstraint,
    ReflectedPrimaryKeyConstraint,
    ReflectedTableComment,
)
from sqlalchemy.engine.reflection import ObjectKind, ObjectScope, ReflectionDefaults

from lacus.sqlalchemy import _types

Found = TypeVar("Found")
TableKey: TypeAlias = "tuple[str | None, str]"
Answers: TypeAlias = "Iterable[tuple[TableKey, Found]]"

TEMPORARY_SCHEMA = "temp"
MOST_NAMES = 100
PREFIX = "type.googleapis.com/arrow.flight.protocol.sql."


class Entry(NamedTuple):
    """A table or a view, as ``information_schema.tables`` has it."""

    schema: str
    name: str
    kind: str
    comment: str | None

    def is_in(self, kind: ObjectKind, scope: ObjectScope) -> bool:
        """Whether it is of this kind, and kept or temporary as asked."""
        of_kind = ObjectKind.VIEW if self.kind == "VIEW" else ObjectKind.TABLE
        of_scope = ObjectScope.TEMPORARY if self.schema == TEMPORARY_SCHEMA else ObjectScope.DEFAULT
        return of_kind in kind and of_scope in scope


def _field(number: int, content: bytes) -> bytes:
    """A field of a message of Protocol Buffers that holds bytes, a text or a message."""
    length = len(content)
    digits = bytearray()
    while length > 127:
        digits.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *digits, length]) + content


def keys_ticket(command: str, entry: Entry) -> bytes:
    """The ``FlightInfo`` of a command of Flight SQL that names a table: its endpoint's ticket is the command itself.

    ADBC has no call for keys, but reads any endpoint that it is given, in the session of the connection.
    """
    asked = _field(2, entry.schema.encode()) + _field(3, entry.name.encode())
    message = _field(1, (PREFIX + command).encode()) + _field(2, asked)
    return _field(3, _field(1, _field(1, message)))


def few(names: Sequence[str] | None) -> tuple[str, ...]:
    """The names that a query asks for; it asks for all tables, rather than for very many by their names."""
    return tuple(names) if names and len(names) <= MOST_NAMES else ()


def marks(values: Sequence[object]) -> str:
    """As many parameters as there are values: ``?, ?, ?``."""
    return ", ".join("?" * len(values))


def named(table: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The arguments by which the answer for many tables is that for one, from the same cache."""
    return {"filter_names": [table], "scope": ObjectScope.ANY, "kind": ObjectKind.ANY, "info_cache": asked.get("info_cache")}


def only(answers: Answers[Found], table: str) -> Found:
    """The answer for the one table that was asked for."""
    for _, answer in answers:
        return answer
    raise exc.NoSuchTableError(table)


class LacusReflection(default.DefaultDialect):
    """The half of the dialect that tells what there is."""

    def entries(
        self,
        connection: Connection,
        schema: str | None = None,
        filter_names: Sequence[str] | None = None,
        scope: ObjectScope = ObjectScope.ANY,
        kind: ObjectKind = ObjectKind.ANY,
        **kw: Any,
    ) -> dict[str, Entry]:
        """The tables and views of a schema by their names; without a schema, those that a bare name means."""
        schemas, wanted = tuple(self._schemas(schema)), set(filter_names or ())
        listed = self._listed(connection, schemas=schemas, names=few(filter_names), info_cache=kw.get("info_cache"))
        return {entry.name: entry for entry in listed if entry.is_in(kind, scope) and (not wanted or entry.name in wanted)}

    @reflection.cache
    def _listed(self, connection: Connection, *, schemas: tuple[str, ...], names: tuple[str, ...], **kw: Any) -> list[Entry]:
        """The tables and views of schemas, all of them or those of some names; a temporary one, which hides one that is kept, is last."""
        sql = "SELECT table_schema, table_name, table_type, table_comment FROM information_schema.tables"
        sql += f" WHERE table_schema IN ({marks(schemas)})"
        if names:
            sql += f" AND table_name IN ({marks(names)})"
        found = [Entry(*row) for row in connection.exec_driver_sql(sql, (*schemas, *names))]
        return sorted(found, key=lambda entry: (entry.schema == TEMPORARY_SCHEMA, entry.name))

    def _schemas(self, schema: str | None) -> list[str]:
        return [schema] if schema is not None else [str(self.default_schema_name), TEMPORARY_SCHEMA]

    def _names(self, connection: Connection, schema: str | None, kind: ObjectKind, scope: ObjectScope, **kw: Any) -> list[str]:
        return list(self.entries(connection, schema, scope=scope, kind=kind, **kw))

    @reflection.cache
    def get_schema_names(self, connection: Connection, **kw: Any) -> list[str]:
        return [name for (name,) in connection.exec_driver_sql("SELECT schema_name FROM information_schema.schemata ORDER BY schema_name")]

    @reflection.cache
    def get_table_names(self, connection: Connection, schema: str | None = None, **kw: Any) -> list[str]:
        return self._names(connection, schema, ObjectKind.TABLE, ObjectScope.DEFAULT, **kw)

    @reflection.cache
    def get_temp_table_names(self, connection: Connection, schema: str | None = None, **kw: Any) -> list[str]:
        return self._names(connection, None, ObjectKind.TABLE, ObjectScope.TEMPORARY, **kw)

    @reflection.cache
    def get_view_names(self, connection: Connection, schema: str | None = None, **kw: Any) -> list[str]:
        return self._names(connection, schema, ObjectKind.VIEW, ObjectScope.DEFAULT, **kw)

    @reflection.cache
    def get_temp_view_names(self, connection: Connection, schema: str | None = None, **kw: Any) -> list[str]:
        return []

    @reflection.cache
    def get_view_definition(self, connection: Connection, view_name: str, schema: str | None = None, **kw: Any) -> str:
        sql = "SELECT definition FROM information_schema.views WHERE table_schema = ? AND table_name = ?"
        definition = connection.exec_driver_sql(sql, (self._schemas(schema)[0], view_name)).scalar()
        if definition is None:
            raise exc.NoSuchTableError(view_name)
        return str(definition)

    @reflection.cache
    def has_table(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> bool:
        return table_name in self.entries(connection, schema, [table_name], **kw)

    def has_multi_table(
        self, connection: Connection, table_names: Sequence[str], schema: str | None = None, **kw: Any
    ) -> Iterator[tuple[TableKey, bool]]:
        found = self.entries(connection, schema, table_names, **kw)
        return (((schema, name), name in found) for name in table_names)

    def get_multi_columns(self, connection: Connection, *, schema: str | None = None, **kw: Any) -> Any:
        entries = self.entries(connection, schema, **kw)
        schemas, names = self._schemas(schema), few(kw.get("filter_names"))
        sql = "SELECT table_schema, table_name, column_name, ordinal_position, is_nullable, data_type, column_type, unit, column_comment"
        sql += f" FROM information_schema.columns WHERE table_schema IN ({marks(schemas)})"
        if names:
            sql += f" AND table_name IN ({marks(names)})"
        sql += " ORDER BY table_schema, table_name, ordinal_position"
        found: dict[TableKey, list[ReflectedColumn]] = {(schema, name): [] for name in entries}
        broken = kw.get("unreflectable", {})
        for of_schema, table, *column in connection.exec_driver_sql(sql, (*schemas, *names)):
            if table not in entries or entries[table].schema != of_schema:
                continue
            if not column[1]:
                # A table that can't be opened has one row without a number, which says why.
                broken[schema, table] = exc.UnreflectableTableError(f"{table}: {column[6]}")
                found.pop((schema, table), None)
                continue
            found[schema, table].append(_column(*column))
        return found.items()

    @reflection.cache
    def get_columns(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> list[ReflectedColumn]:
        broken: dict[TableKey, exc.UnreflectableTableError] = {}
        answers = self.get_multi_columns(connection, schema=schema, unreflectable=broken, **named(table_name, kw))
        for error in broken.values():
            raise error
        return only(answers, table_name)

    def get_multi_pk_constraint(self, connection: Connection, *, schema: str | None = None, **kw: Any) -> Any:
        for name, entry in self.entries(connection, schema, **kw).items():
            rows = self._keys(connection, "CommandGetPrimaryKeys", entry)
            key = ReflectionDefaults.pk_constraint()
            if rows:
                key = {"constrained_columns": [row[3] for row in rows], "name": rows[0][4]}
            yield (schema, name), key

    @reflection.cache
    def get_pk_constraint(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> ReflectedPrimaryKeyConstraint:
        answers: Answers[ReflectedPrimaryKeyConstraint] = self.get_multi_pk_constraint(connection, schema=schema, **named(table_name, kw))
        return only(answers, table_name)

    def get_multi_foreign_keys(self, connection: Connection, *, schema: str | None = None, **kw: Any) -> Any:
        for name, entry in self.entries(connection, schema, **kw).items():
            keys: dict[str, ReflectedForeignKeyConstraint] = {}
            for row in self._keys(connection, "CommandGetImportedKeys", entry):
                other = None if schema is None and row[1] == self.default_schema_name else row[1]
                empty: ReflectedForeignKeyConstraint = {
                    "name": row[9],
                    "constrained_columns": [],
                    "referred_schema": other,
                    "referred_table": row[2],
                    "referred_columns": [],
                    "options": {},
                }
                key = keys.setdefault(row[9], empty)
                key["constrained_columns"].append(row[7])
                key["referred_columns"].append(row[3])
            yield (schema, name), list(keys.values())

    @reflection.cache
    def get_foreign_keys(
        self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[ReflectedForeignKeyConstraint]:
        return only(self.get_multi_foreign_keys(connection, schema=schema, **named(table_name, kw)), table_name)

    def _keys(self, connection: Connection, command: str, entry: Entry) -> list[tuple[Any, ...]]:
        """The rows of a command for the keys of a table: those that the lake file declares."""
        if entry.kind != "BASE TABLE":
            return []
        cursor = connection.connection.cursor()
        try:
            cursor.adbc_read_partition(keys_ticket(command, entry))
            return list(cursor.fetchall())
        finally:
            cursor.close()

    def get_multi_table_comment(self, connection: Connection, *, schema: str | None = None, **kw: Any) -> Any:
        for name, entry in self.entries(connection, schema, **kw).items():
            yield (schema, name), {"text": entry.comment}

    @reflection.cache
    def get_table_comment(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> ReflectedTableComment:
        answers: Answers[ReflectedTableComment] = self.get_multi_table_comment(connection, schema=schema, **named(table_name, kw))
        return only(answers, table_name)

    def _nothing(self, empty: Callable[[], Found], connection: Connection, schema: str | None, **kw: Any) -> Answers[Found]:
        """The answer for what no table has."""
        return (((schema, name), empty()) for name in self.entries(connection, schema, **kw))

    def get_multi_indexes(self, connection: Connection, *, schema: str | None = None, **kw: Any) -> Any:
        return self._nothing(ReflectionDefaults.indexes, connection, schema, **kw)

    def get_multi_unique_constraints(self, connection: Connection, *, schema: str | None = None, **kw: Any) -> Any:
        return self._nothing(ReflectionDefaults.unique_constraints, connection, schema, **kw)

    def get_multi_check_constraints(self, connection: Connection, *, schema: str | None = None, **kw: Any) -> Any:
        return self._nothing(ReflectionDefaults.check_constraints, connection, schema, **kw)

    @reflection.cache
    def get_indexes(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        return only(self.get_multi_indexes(connection, schema=schema, **named(table_name, kw)), table_name)

    @reflection.cache
    def get_unique_constraints(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        return only(self.get_multi_unique_constraints(connection, schema=schema, **named(table_name, kw)), table_name)

    @reflection.cache
    def get_check_constraints(self, connection: Connection, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        return only(self.get_multi_check_constraints(connection, schema=schema, **named(table_name, kw)), table_name)


def _column(
    name: str, _: int, nullable: str, kind: str, declared: str | None, unit: str | None, comment: str | None
) -> ReflectedColumn:
    """A column; its comment ends in its unit."""
    column: ReflectedColumn = {
        "name": name,
        "type": _types.from_arrow(kind, declared),
        "nullable": nullable == "YES",
        "default": None,
    }
    if said := " ".join(filter(None, [comment, unit and f"[{unit}]"])):
        column["comment"] = said
    return column
