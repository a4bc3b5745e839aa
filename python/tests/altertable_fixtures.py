"""The fixtures that the tests of altertable-flightsql want, over a server of Lacus: put beside them as their conftest."""

import dataclasses
import os
import uuid
from collections.abc import Iterator

import pytest
from altertable_flightsql import Client


@dataclasses.dataclass
class SchemaInfo:
    catalog: str
    schema: str

    @property
    def full_name(self) -> str:
        return f"{self.catalog}.{self.schema}"


@dataclasses.dataclass
class TableInfo:
    catalog: str
    schema: str
    table: str

    @property
    def full_name(self) -> str:
        return f"{self.catalog}.{self.schema}.{self.table}"


@pytest.fixture
def altertable_client() -> Iterator[Client]:
    host, port = os.environ["LACUS_SERVER"].split(":")
    with Client(username="ada", password="any", host=host, port=int(port), tls=False) as client:
        yield client


@pytest.fixture
def test_catalog() -> str:
    return "lab"


@pytest.fixture
def test_schema(altertable_client: Client, test_catalog: str) -> SchemaInfo:
    name = f"schema_{uuid.uuid4().hex[:8]}"
    altertable_client.execute(f"CREATE SCHEMA {test_catalog}.{name}")
    return SchemaInfo(test_catalog, name)


@pytest.fixture
def test_table(altertable_client: Client, test_schema: SchemaInfo) -> TableInfo:
    table = TableInfo(test_schema.catalog, test_schema.schema, f"test_table_{uuid.uuid4().hex[:8]}")
    altertable_client.execute(f"CREATE TABLE {table.full_name} (id BIGINT, name VARCHAR, value BIGINT)")
    altertable_client.execute(f"INSERT INTO {table.full_name} VALUES (1, 'Alice', 100), (2, 'Bob', 200), (3, 'Charlie', 300)")
    return table
