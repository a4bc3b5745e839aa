"""The dialect: how a server is reached, and what it can't do."""

from __future__ import annotations

import ipaddress
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import exc
from sqlalchemy.engine import URL, Connection, default
from sqlalchemy.engine.interfaces import BindTyping, DBAPIConnection, DBAPICursor, DBAPIModule, IsolationLevel

from lacus.sqlalchemy import _compiler, _types
from lacus.sqlalchemy._reflection import LacusReflection

PORT = 50051
CERTIFICATES = "adbc.flight.sql.client_option.tls_root_certs"
AUTHORIZATION = "adbc.flight.sql.authorization_header"
OPTIONS = "tls, ca, token, socket and those of ADBC, which begin with `adbc.`"
# The status of gRPC, and what the driver says when it is its own rather than the server's.
UNAVAILABLE = 14
SIGNS_OF_THE_TRANSPORT = ("connection error: desc", "error reading from server", "transport is closing")
YES_AND_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def is_loopback(host: str) -> bool:
    """Whether an address is one of this machine, on which nobody listens in."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address(url: URL, socket: str | None, tls: str | None) -> str:
    """The address as ADBC takes it: by TLS beyond this machine, unless the URL says otherwise."""
    if socket is not None:
        return f"grpc+unix://{socket}"
    host = url.host or "127.0.0.1"
    if tls is not None and tls.lower() not in YES_AND_NO:
        raise exc.ArgumentError(f"`tls` is true or false, not {tls!r}")
    by_tls = not is_loopback(host) if tls is None else YES_AND_NO[tls.lower()]
    scheme = "grpc+tls" if by_tls else "grpc"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{url.port or PORT}"


class LacusCursor:
    """A cursor of ADBC. One that has no rows has no description, where ADBC's is an empty list."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    @property
    def description(self) -> Sequence[Any] | None:
        return self._cursor.description or None


class LacusExecutionContext(default.DefaultExecutionContext):
    """One statement while it runs."""

    def create_default_cursor(self) -> DBAPICursor:
        return LacusCursor(self._dbapi_connection.cursor())  # type: ignore[return-value]


class LacusDialect(LacusReflection):
    """``lacus://[user:password@]host:port/[schema]``, by ADBC.

    A connection is a session of the server: temporary tables and the current schema are its own. Each statement is committed by itself, so
    that committing does nothing, and rolling back takes nothing back.
    """

    name = "lacus"
    driver = "adbc"
    default_paramstyle = "qmark"
    statement_compiler = _compiler.LacusCompiler
    ddl_compiler = _compiler.LacusDDLCompiler
    type_compiler_cls = _compiler.LacusTypeCompiler
    preparer = _compiler.LacusPreparer
    execution_ctx_cls = LacusExecutionContext
    colspecs = _types.COLSPECS
    bind_typing = BindTyping.RENDER_CASTS

    supports_statement_cache = True
    supports_alter = False
    supports_multivalues_insert = True
    supports_empty_insert = False
    supports_native_boolean = True
    supports_native_decimal = True
    returns_native_bytes = True
    postfetch_lastrowid = False

    @classmethod
    def import_dbapi(cls) -> DBAPIModule:
        import adbc_driver_flightsql.dbapi

        return adbc_driver_flightsql.dbapi  # type: ignore[return-value]

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        options = {name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()}
        said = {name: options.pop(name, None) for name in ("tls", "ca", "token", "socket")}
        if unknown := [name for name in options if not name.startswith("adbc.")]:
            raise exc.ArgumentError(f"the URL has the option `{unknown[0]}`; there are {OPTIONS}")
        if url.username:
            options["username"] = url.username
        if url.password:
            options["password"] = str(url.password)
        if said["token"] is not None:
            options[AUTHORIZATION] = f"Bearer {said['token']}"
        if said["ca"] is not None:
            options[CERTIFICATES] = pathlib.Path(said["ca"]).expanduser().read_text()
        return [address(url, said["socket"], said["tls"])], {"db_kwargs": options, "autocommit": True}

    def on_connect_url(self, url: URL) -> Callable[[Any], None] | None:
        """What is done first with a connection: the schema of the URL becomes the current one."""
        if not url.database:
            return None

        def enter(connection: Any) -> None:
            connection.adbc_current_db_schema = url.database

        return enter

    def _get_default_schema_name(self, connection: Connection) -> str:
        return str(connection.exec_driver_sql("SELECT current_schema()").scalar())

    def _get_server_version_info(self, connection: Connection) -> tuple[int, ...]:
        version = connection.connection.adbc_get_info()["vendor_version"]
        return tuple(int(number) for number in version.split("-")[0].split("."))

    def do_execute_no_params(self, cursor: DBAPICursor, statement: str, context: Any = None) -> None:
        # What is left out of the SQL as a whole, such as an index, is not asked for.
        if statement:
            cursor.execute(statement)

    def do_execute(self, cursor: DBAPICursor, statement: str, parameters: Any, context: Any = None) -> None:
        if statement:
            cursor.execute(statement, parameters)

    def is_disconnect(self, e: Exception, connection: Any, cursor: Any) -> bool:
        # A store that doesn't answer is `Unavailable`, too, and the connection is none the worse for it.
        return getattr(e, "vendor_code", None) == UNAVAILABLE and any(sign in str(e) for sign in SIGNS_OF_THE_TRANSPORT)

    def do_commit(self, dbapi_connection: Any) -> None:
        """Nothing: each statement was committed when it ended."""

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Nothing: each statement was committed when it ended."""

    def get_isolation_level_values(self, dbapi_conn: DBAPIConnection) -> Sequence[IsolationLevel]:
        return ["AUTOCOMMIT"]

    def get_isolation_level(self, dbapi_connection: DBAPIConnection) -> IsolationLevel:
        return "AUTOCOMMIT"

    def get_default_isolation_level(self, dbapi_conn: DBAPIConnection) -> IsolationLevel:
        return "AUTOCOMMIT"

    def set_isolation_level(self, dbapi_connection: DBAPIConnection, level: IsolationLevel) -> None:
        """Nothing: there is one level."""

    def detect_autocommit_setting(self, dbapi_conn: DBAPIConnection) -> bool:
        return True
