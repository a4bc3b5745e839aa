"""The tests of SQLAlchemy for reflection, with views in the schema `main` alone: `CREATE VIEW` can't put them elsewhere."""

import sqlalchemy as sa
from sqlalchemy.testing.suite import test_reflection
from sqlalchemy.testing.suite.test_reflection import *  # noqa: F403


class HasTableTest(test_reflection.HasTableTest):
    @classmethod
    def define_views(cls, metadata):  # type: ignore[no-untyped-def]
        table = metadata.tables["test_table"]
        sa.CreateView(sa.select(table.c.id, table.c.data), "vv", metadata=metadata)


class ComponentReflectionTest(test_reflection.ComponentReflectionTest):
    @classmethod
    def define_views(cls, metadata, schema):  # type: ignore[no-untyped-def]
        if schema is None:
            super().define_views(metadata, schema)

    def _resolve_views(self, views, materialized):  # type: ignore[no-untyped-def]
        super()._resolve_views(views, materialized)
        for schema, name in [*views]:
            if schema is not None:
                del views[schema, name]
