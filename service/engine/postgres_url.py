"""What a PostgreSQL URL means that was written for another client, in terms of our driver. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from service.url import Url, parse

Pooler = Literal["auto", "none", "transaction"]
"""Whether a pooler lends connections by the transaction; ``auto``: if the URL looks like it."""

DEFAULT_CONNECTIONS = 20
"""The most connections of a process to our PostgreSQL, unless it is told otherwise."""
FEWEST_CONNECTIONS = 5
"""Some work holds one connection and needs another: fewer would stop it."""
_FOR_THE_DRIVER = frozenset((
    "host", "port", "dbname", "database", "user", "password", "passfile", "sslmode", "sslcert", "sslkey",
    "sslrootcert", "sslcrl", "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version",
    "target_session_attrs", "krbsrvname", "gsslib", "service", "servicefile",
))  # fmt: skip
_OF_OTHER_CLIENTS = frozenset((
    "pgbouncer", "connection_limit", "pool_timeout", "channel_binding", "statement_cache_size",
    "prepared_statements", "preparethreshold", "schema", "connect_timeout", "socket_timeout", "gssencmode",
    "sslnegotiation", "sslaccept", "ssl", "uselibpqcompat", "keepalives", "keepalives_idle",
    "keepalives_interval", "keepalives_count", "tcp_user_timeout", "supa",
))  # fmt: skip
"""Parameters (lower case) of Prisma, libpq, JDBC and node-postgres; none is sent to the server."""
_POOLED_BY = {
    "pgbouncer": {"true", "1"},
    "prepared_statements": {"false"},
    "statement_cache_size": {"0"},
    "preparethreshold": {"0"},
}


@dataclass(frozen=True)
class PostgresUrl:
    """How to connect.

    ``url``: for the driver. ``pooled``: through a pooler in transaction mode. ``schema``: where tables are;
    empty: in the search path. ``connections``: how many at most; None: no limit. ``warnings``: what the URL
    asks for and does not get.
    """

    url: str
    pooled: bool = False
    schema: str = ""
    connections: int | None = None
    warnings: tuple[str, ...] = ()

    def options(self, settings: Mapping[str, str]) -> dict[str, Any]:
        """Arguments for the driver. ``settings``: of the server, for each session.

        A pooler lends sessions out with every transaction: it takes no setting but the time zone, and
        prepared statements would be missing in the next one.
        """
        if self.pooled:
            return {"statement_cache_size": 0, "server_settings": {"timezone": "UTC"}}
        path = {"search_path": f'"{self.schema}"'} if self.schema else {}
        return {"server_settings": {**settings, **path}}

    def pool_options(self, settings: Mapping[str, str]) -> dict[str, Any]:
        """The same for a pool of the driver."""
        return {**self.options(settings), "reset": _keep if self.pooled else None}


async def _keep(_connection: object) -> None:
    """In place of the driver's reset, which through a pooler would reset the session of somebody else."""


def read(text: str, pooler: Pooler = "auto", ca_file: Path | None = None) -> PostgresUrl:
    """Understand a URL. ``ca_file``: a private authority that signs the server's certificate."""
    url = parse(text)
    if url is None:
        return PostgresUrl(text, pooled=pooler == "transaction")
    values = {name.lower(): value or "" for name, value in url.parameters}
    pooled = pooler == "transaction" or (pooler == "auto" and _looks_pooled(url, values))
    kept = {
        name: value or ""
        for name, value in url.parameters
        if name.lower() in _FOR_THE_DRIVER or not (pooled or name.lower() in _OF_OTHER_CLIENTS)
    }
    kept |= _tls(values, ca_file)
    query = "&".join(f"{name}={value}" for name, value in kept.items())
    base = text.partition("#")[0].partition("?")[0]
    limit = values.get("connection_limit", "")
    return PostgresUrl(
        f"{base}?{query}" if query else base,
        pooled,
        "" if pooled else values.get("schema", ""),
        int(limit) if limit.isdecimal() else None,
        tuple(_warnings(values, pooled=pooled)),
    )


def _looks_pooled(url: Url, values: Mapping[str, str]) -> bool:
    """Neon's poolers are named ``…-pooler…``; Supabase's lend by the transaction at port 6543."""
    if any(values.get(name, "").lower() in found for name, found in _POOLED_BY.items()):
        return True
    neon = url.host.partition(".")[0].endswith("-pooler")
    return neon or ("supabase" in url.host and url.hosts.endswith(":6543"))


def _tls(values: Mapping[str, str], ca_file: Path | None) -> dict[str, str]:
    mode = values.get("sslmode", "")
    if ca_file is not None:
        return {
            "sslmode": mode if mode.startswith("verify-") else "verify-full",
            "sslrootcert": quote(str(ca_file)),
        }
    if mode == "no-verify" or (not mode and values.get("ssl", "").lower() in {"true", "1", "require"}):
        return {"sslmode": "require"}
    return {}


def _warnings(values: Mapping[str, str], *, pooled: bool) -> list[str]:
    warnings = []
    if values.get("channel_binding") == "require":
        warnings.append("channel_binding=require: the driver cannot; only TLS protects the connection")
    if pooled:
        left_out = [name for name in values if name not in _FOR_THE_DRIVER | _OF_OTHER_CLIENTS]
        left_out += ["schema"] if values.get("schema", "public") != "public" else []
        warnings += [
            f"{name} cannot be set through a pooler and is left out; ALTER ROLE … SET it at the server"
            for name in left_out
            if name != "application_name"
        ]
    return warnings
