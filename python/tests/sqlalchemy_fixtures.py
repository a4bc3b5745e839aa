"""The conftest of the tests of SQLAlchemy: its plugin for pytest, and how temporary tables are made."""

from sqlalchemy.testing import provision
from sqlalchemy.testing.plugin.pytestplugin import *  # noqa: F403


@provision.temp_table_keyword_args.for_db("lacus")
def temp_table_keyword_args(cfg, eng):  # type: ignore[no-untyped-def]
    return {"prefixes": ["TEMPORARY"]}


@provision.set_default_schema_on_connection.for_db("lacus")
def set_default_schema_on_connection(cfg, dbapi_connection, schema_name):  # type: ignore[no-untyped-def]
    dbapi_connection.adbc_current_db_schema = schema_name
