"""The conftest of the tests of SQLAlchemy: its plugin for pytest, and how temporary tables are made."""

import pytest
from sqlalchemy.testing import provision
from sqlalchemy.testing.plugin.pytestplugin import *  # noqa: F403


@provision.temp_table_keyword_args.for_db("lacus")
def temp_table_keyword_args(cfg, eng):  # type: ignore[no-untyped-def]
    return {"prefixes": ["TEMPORARY"]}


@provision.set_default_schema_on_connection.for_db("lacus")
def set_default_schema_on_connection(cfg, dbapi_connection, schema_name):  # type: ignore[no-untyped-def]
    dbapi_connection.adbc_current_db_schema = schema_name


@pytest.fixture(autouse=True)
def windows_in_one_partition(request):  # type: ignore[no-untyped-def]
    """The tests of windows take rows without ORDER BY to be in the order of the window, which one partition keeps."""
    if request.cls is None or not request.cls.__name__.startswith("WindowFunctionTest"):
        yield
        return
    connection = request.getfixturevalue("connection")
    connection.exec_driver_sql("SET datafusion.execution.target_partitions = 1")
    yield
    connection.exec_driver_sql("RESET datafusion.execution.target_partitions")
