"""Errors of PostgreSQL and its driver as sentences: what is wrong, where, and the remedy.

For our own database and the dashboard's. Neither a password nor a value of a row is quoted.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from service import connection_errors
from service.engine.database_errors import PoolExhausted
from service.url import describe_error, parse

_MAY_HOLD_VALUES = ("22", "23")
"""Classes of SQLSTATE whose messages quote values of rows."""
_DENIED = re.compile(r'permission denied for (?P<kind>[a-z ]+?) "?(?P<name>[^"\s]+)"?$')
_PARAMETER = re.compile(r'parameter:? "?(?P<name>[\w.]+)"?')
_PREPARED = {"26000", "42P05"}
_PRIVILEGES = {
    "table": "SELECT ON", "schema": "USAGE ON SCHEMA", "database": "CONNECT ON DATABASE",
    "sequence": "USAGE ON SEQUENCE", "function": "EXECUTE ON FUNCTION",
}  # fmt: skip
"""What reading the dashboard needs, by the kind of object."""
_OUR_PRIVILEGES = {
    **_PRIVILEGES,
    "table": "ALL ON",
    "schema": "ALL ON SCHEMA",
    "database": "CREATE ON DATABASE",
}
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL as the settings name it.

    ``prefix``: ``DATABASE`` or ``DASHBOARD``, as its settings begin. ``url``: empty if it is not known.
    """

    prefix: str
    url: str = ""

    @property
    def place(self) -> str:
        """Its host and port, as far as they are known."""
        url = parse(self.url)
        host = url and (url.hosts or dict(url.parameters).get("host"))
        return f"PostgreSQL at {host}" if host else "PostgreSQL"

    @property
    def user(self) -> str:
        """The user of the URL."""
        url = parse(self.url)
        return (url and url.user) or "the user of the URL"

    @property
    def login(self) -> str:
        """The user with a word before the name."""
        return f"the user {self.user}" if self.url else self.user

    @property
    def role(self) -> str:
        """The user as SQL names it."""
        url = parse(self.url)
        return f'"{url.user}"' if url and url.user else "that user"

    @property
    def database(self) -> str:
        """The database of the URL, in quotes."""
        url = parse(self.url)
        return f'"{url.path[1:]}"' if url and url.path[1:] else "of that name"


def describe(error: BaseException, server: Server) -> str:
    """An error in a sentence, for health, logs and the command line."""
    reason = known_reason(error, server) or _other_reason(error)
    return f"{server.prefix}_URL: {server.place} {reason}"


def known_reason(error: BaseException, server: Server) -> str | None:
    """What is wrong and the remedy, to put after the server's name; None: no remedy is known."""
    if isinstance(error, asyncpg.PostgresError):
        return _by_state(error.sqlstate or "", _message(error), server)
    if isinstance(error, asyncpg.ClientConfigurationError):
        return f"cannot be connected to: {_driver_refusal(error, server)}"
    if isinstance(error, PoolExhausted):
        return f"is too busy: {error}"
    if isinstance(error, FileNotFoundError):
        return "cannot be connected to: a file that the URL names does not exist (its socket, or sslrootcert)"
    return connection_errors.reason(error, f"{server.prefix}_CA_FILE")


def _other_reason(error: BaseException) -> str:
    if not isinstance(error, asyncpg.PostgresError):
        return f"closed the connection or cannot be reached ({type(error).__name__})"
    state = error.sqlstate or ""
    if state.startswith(_MAY_HOLD_VALUES):
        return f"refuses a statement ({type(error).__name__}, {state})"
    return f"reports: {_message(error)[:_LONGEST]} ({state})"


def _message(error: asyncpg.PostgresError) -> str:
    """The first line: asyncpg adds DETAIL, which may hold values of rows."""
    return str(error.args[0] if error.args else "").partition("\n")[0]


def _driver_refusal(error: Exception, server: Server) -> str:
    if "root certificate file" in str(error):
        return (
            f"sslmode asks to verify its certificate, and nothing says by which authority;"
            f" name the authority's file in {server.prefix}_CA_FILE"
        )
    return f"the driver refuses the URL: {describe_error(error, server.url).partition('HINT')[0].strip()}"


def _by_state(state: str, message: str, server: Server) -> str | None:
    """The reasons that have a remedy; None: the message has to do."""
    if state in _PREPARED or "unsupported startup parameter" in message:
        return (
            "seems to be a pooler (such as PgBouncer) that lends connections by the transaction;"
            f" set {server.prefix}_POOLER=transaction, or use the database's own port"
        )
    if "SSL required" in message or (state == "28000" and "no encryption" in message):
        return (
            f"does not accept {server.user} from this host without TLS; add sslmode=require to the URL,"
            " or allow it in its pg_hba.conf"
        )
    if state == "3D000" or re.search(r'database "[^"]*" does not exist|no such database', message):
        return f"has no database {server.database}; create it, or correct the name at the end of the URL"
    decide = _STATES.get(state)
    return decide(message, server) if decide else None


def _denied(message: str, server: Server) -> str:
    match = _DENIED.search(message)
    if match is None:
        return f"does not allow this to {server.user}: {message[:_LONGEST]}"
    kind, name = match["kind"], match["name"]
    privileges = _OUR_PRIVILEGES if server.prefix == "DATABASE" else _PRIVILEGES
    grant = f"GRANT {privileges.get(kind, privileges['table'])} {name} TO {server.role}"
    return f"does not let {server.user} use the {kind} {name}; {grant}"


def _unknown_parameter(message: str, _server: Server) -> str:
    match = _PARAMETER.search(message)
    name = match["name"] if match else "a parameter"
    return f"does not know the parameter {name} of the URL; take it out"


def _wrong_password(_message: str, server: Server) -> str:
    return (
        f"refuses {server.login} or the password; check both (in the URL, special characters are"
        " percent-encoded: @ as %40, / as %2F)"
    )


def _not_from_here(message: str, server: Server) -> str:
    if "does not exist" in message:
        return f"has no role {server.user}; create it, or correct the user in the URL"
    return f"does not accept {server.user} from this host; allow it in its pg_hba.conf"


def _full(message: str, server: Server) -> str:
    """Of the whole server, of our role, or of our database."""
    for kind, name in (("role", server.role), ("database", server.database)):
        if f"for {kind}" in message:
            remedy = f"ALTER {kind.upper()} {name} CONNECTION LIMIT n, or close other clients"
            ours = " (each process uses up to DATABASE_POOL_SIZE)" if server.prefix == "DATABASE" else ""
            return f"has no connection left for our {kind}; {remedy}{ours}"
    return "has no connection left; raise max_connections, or close other clients"


_STATES: dict[str, Callable[[str, Server], str]] = {
    "28P01": _wrong_password,
    "28000": _not_from_here,
    "42501": _denied,
    "42704": _unknown_parameter,
    "53300": _full,
    "57P03": lambda *_: "is starting up or shutting down; it should answer in a moment",
    "57014": lambda *_: "cancelled a statement that took too long; look for load and locks there",
    "25006": lambda *_: "is read-only; let the URL lead to the primary",
    "53100": lambda *_: "has no disk space left",
}  # fmt: skip
