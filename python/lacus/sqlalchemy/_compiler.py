"""SQL as the server reads it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import exc, types
from sqlalchemy.sql import compiler, elements

from lacus.sqlalchemy._types import STRUCT, UNSIGNED

UNSIGNED_WORDS = {8: "TINYINT UNSIGNED", 16: "SMALLINT UNSIGNED", 32: "INTEGER UNSIGNED", 64: "BIGINT UNSIGNED"}
# What the parser of the server takes for something else than a name, beside the words that SQLAlchemy knows.
ALSO_RESERVED = {"cube", "current_catalog", "directory", "exists", "fulltext", "index", "interval", "key", "lateral", "local", "recursive"}
ALSO_RESERVED |= {"returning", "rollup", "spatial", "struct", "top", "trim", "unnest"}


class LacusPreparer(compiler.IdentifierPreparer):
    """Quotes the names that the server would read otherwise: it makes small letters of a name without quotes."""

    reserved_words = compiler.RESERVED_WORDS | ALSO_RESERVED


class LacusCompiler(compiler.SQLCompiler):
    """Queries and changes of rows."""

    def get_select_precolumns(self, select: Any, **kw: Any) -> str:
        if not select._distinct_on:
            return super().get_select_precolumns(select, **kw)
        return f"DISTINCT ON ({', '.join(self.process(column, **kw) for column in select._distinct_on)}) "

    def render_bind_cast(self, type_: Any, dbapi_type: Any, sqltext: str) -> str:
        return f"CAST({sqltext} AS {self.dialect.type_compiler_instance.process(dbapi_type)})"

    def visit_concat_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return self._joined([binary.left, binary.right], **kw)

    def visit_concat_op_expression_clauselist(self, clauselist: Any, operator: Any, **kw: Any) -> str:
        return self._joined(clauselist.clauses, **kw)

    def _joined(self, parts: Any, **kw: Any) -> str:
        """Texts one behind another. Of `? || ?` the server can't tell what it joins, since arrays are joined by it, too."""
        texts = [self.process(part, **kw) for part in parts]
        is_text = [isinstance(part, elements.BindParameter) and part.type._type_affinity is types.String for part in parts]
        return " || ".join(f"CAST({text} AS VARCHAR)" if bound else text for text, bound in zip(texts, is_text, strict=True))

    def limit_clause(self, select: Any, **kw: Any) -> str:
        return self._rows(select._limit_clause, select._offset_clause, **kw)

    def fetch_clause(self, select: Any, *args: Any, **kw: Any) -> str:
        options = select._fetch_clause_options
        if options["percent"] or options["with_ties"]:
            raise exc.CompileError("FETCH takes a number of rows here: neither PERCENT nor WITH TIES")
        return self._rows(select._fetch_clause, select._offset_clause, **kw)

    def _rows(self, limit: Any, offset: Any, **kw: Any) -> str:
        bounds = (("LIMIT", limit), ("OFFSET", offset))
        return "".join(f"\n {word} {self.process(bound, **kw)}" for word, bound in bounds if bound is not None)

    def for_update_clause(self, select: Any, **kw: Any) -> str:
        # Nothing is locked: each statement is a step of its own.
        return ""

    def visit_ilike_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return self._like(binary, "ILIKE", **kw)

    def visit_not_ilike_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return self._like(binary, "NOT ILIKE", **kw)

    def _like(self, binary: Any, word: str, **kw: Any) -> str:
        text = f"{self.process(binary.left, **kw)} {word} {self.process(binary.right, **kw)}"
        escape = binary.modifiers.get("escape")
        return text if escape is None else f"{text} ESCAPE {self.render_literal_value(escape, types.STRINGTYPE)}"

    def visit_regexp_match_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return self._regexp("regexp_like", binary, **kw)

    def visit_not_regexp_match_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return "NOT " + self._regexp("regexp_like", binary, **kw)

    def visit_regexp_replace_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        # The right side is the pattern and what replaces it, with a comma between.
        return self._regexp("regexp_replace", binary, **kw)

    def _regexp(self, function: str, binary: Any, **kw: Any) -> str:
        arguments = [self.process(binary.left, **kw), self.process(binary.right, **kw)]
        if binary.modifiers["flags"] is not None:
            arguments.append(self.render_literal_value(binary.modifiers["flags"], types.STRINGTYPE))
        return f"{function}({', '.join(arguments)})"

    def visit_truediv_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        exact = (types.Numeric, types.Float)
        if binary.left.type._type_affinity in exact or binary.right.type._type_affinity in exact:
            return f"{self.process(binary.left, **kw)} / {self.process(binary.right, **kw)}"
        return super().visit_truediv_binary(binary, operator, **kw)  # type: ignore[no-any-return, no-untyped-call]

    def visit_frame_clause(self, frameclause: Any, **kw: Any) -> str:
        # The bounds of a frame can't be parameters: they are written out when the statement runs.
        return super().visit_frame_clause(frameclause, **{**kw, "literal_execute": True})  # type: ignore[no-any-return, no-untyped-call]

    def visit_bitwise_not_op_unary_operator(self, element: Any, operator: Any, **kw: Any) -> str:
        return f"(-1 ^ {self.process(element.element, **kw)})"

    def visit_aggregate_strings_func(self, fn: Any, *, use_function_name: str = "string_agg", **kw: Any) -> str:
        text = super().visit_aggregate_strings_func(fn, use_function_name=use_function_name, **kw)  # type: ignore[no-untyped-call]
        return str(text)

    def visit_empty_set_expr(self, element_types: Any, **kw: Any) -> str:
        number = types.Integer()
        kinds = [number if kind._type_affinity is types.NullType else kind for kind in element_types or [number]]
        values = ", ".join(f"CAST(NULL AS {self.dialect.type_compiler_instance.process(kind)})" for kind in kinds)
        return f"SELECT {values} WHERE 1 != 1"


class LacusDDLCompiler(compiler.DDLCompiler):
    """What makes tables. The server refuses foreign keys and checks, which nobody would check, and has no indexes: they are left out."""

    def visit_foreign_key_constraint(self, constraint: Any, **kw: Any) -> str:
        return None  # type: ignore[return-value]

    def visit_check_constraint(self, constraint: Any, **kw: Any) -> str:
        return None  # type: ignore[return-value]

    def visit_column_check_constraint(self, constraint: Any, **kw: Any) -> str:
        return ""

    def visit_create_index(self, create: Any, *args: Any, **kw: Any) -> str:
        return ""

    def visit_drop_index(self, drop: Any, **kw: Any) -> str:
        return ""


class LacusTypeCompiler(compiler.GenericTypeCompiler):
    """The words of ``CREATE TABLE`` and ``CAST`` for types."""

    def visit_TINYINT(self, type_: Any, **kw: Any) -> str:
        return "TINYINT"

    def visit_UNSIGNED(self, type_: UNSIGNED, **kw: Any) -> str:
        return UNSIGNED_WORDS[type_.bits]

    def visit_float(self, type_: Any, **kw: Any) -> str:
        # FLOAT has 32 bits here, and a float of Python has 64.
        return "REAL" if type_.precision is not None and type_.precision <= 24 else "DOUBLE"

    def visit_DOUBLE(self, type_: Any, **kw: Any) -> str:
        return "DOUBLE"

    def visit_DOUBLE_PRECISION(self, type_: Any, **kw: Any) -> str:
        return "DOUBLE"

    def visit_NVARCHAR(self, type_: Any, **kw: Any) -> str:
        return self.visit_VARCHAR(type_, **kw)

    def visit_NCHAR(self, type_: Any, **kw: Any) -> str:
        return self.visit_CHAR(type_, **kw)

    def visit_CLOB(self, type_: Any, **kw: Any) -> str:
        return "TEXT"

    def visit_BLOB(self, type_: Any, **kw: Any) -> str:
        return "BYTEA"

    def visit_BINARY(self, type_: Any, **kw: Any) -> str:
        return "BYTEA"

    def visit_VARBINARY(self, type_: Any, **kw: Any) -> str:
        return "BYTEA"

    def visit_TIMESTAMP(self, type_: Any, **kw: Any) -> str:
        # Microseconds are what a datetime has, and reach through all of its years; TIMESTAMP alone has nanoseconds.
        return "TIMESTAMP(6) WITH TIME ZONE" if type_.timezone else "TIMESTAMP(6)"

    def visit_DATETIME(self, type_: Any, **kw: Any) -> str:
        return self.visit_TIMESTAMP(type_, **kw)

    def visit_TIME(self, type_: Any, **kw: Any) -> str:
        if type_.timezone:
            raise exc.CompileError("a time of day has no time zone here")
        return "TIME"

    def visit_INTERVAL(self, type_: Any, **kw: Any) -> str:
        return "INTERVAL"

    def visit_ARRAY(self, type_: Any, **kw: Any) -> str:
        return str(self.process(type_.item_type, **kw)) + "[]" * (type_.dimensions or 1)

    def visit_STRUCT(self, type_: STRUCT, **kw: Any) -> str:
        quote = self.dialect.identifier_preparer.quote
        return "STRUCT<" + ", ".join(f"{quote(name)} {self.process(kind, **kw)}" for name, kind in type_.fields.items()) + ">"

    def visit_MAP(self, type_: Any, **kw: Any) -> str:
        raise exc.CompileError("CREATE TABLE and CAST have no word for a map")

    def visit_DURATION(self, type_: Any, **kw: Any) -> str:
        raise exc.CompileError("CREATE TABLE and CAST have no word for a duration; Interval keeps one")

    def visit_JSON(self, type_: Any, **kw: Any) -> str:
        raise exc.CompileError("there is no type for JSON; keep it as Text")
