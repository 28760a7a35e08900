"""Trouble with a PostgreSQL, ours or the dashboard's, is told with its remedy; real servers, no secrets."""

import socket
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from service.dashboard.postgres import PostgresSource
from service.dashboard.profiles.shapes import Table
from service.engine.postgres_errors import Server, describe
from service.errors import ConfigurationError, SourceUnavailable
from service.settings import Settings
from service.setup import databases
from tests import certificates, postgres_server
from tests.postgres_server import PostgresServer

_SECRET = "Heron-owl"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server on TCP."""
    with postgres_server.server() as running:
        yield running


@pytest.fixture
async def admin(server: PostgresServer) -> AsyncIterator[asyncpg.Connection]:
    """Its superuser; ``jobs`` has a password and may read nothing."""
    connection = await asyncpg.connect(server.url())
    await connection.execute(
        f"CREATE ROLE jobs LOGIN PASSWORD '{_SECRET}'; CREATE TABLE users (id text); CREATE SCHEMA dash;"
        "CREATE TABLE dash.goals (id text)"
    )
    await connection.execute("CREATE DATABASE closed")
    await connection.execute("REVOKE CONNECT ON DATABASE closed FROM public")
    server.allow(["host all all all scram-sha-256"])
    yield connection
    server.allow(["host all all all trust"])
    await connection.execute("DROP DATABASE closed")
    await connection.execute("DROP TABLE users; DROP SCHEMA dash CASCADE; DROP ROLE jobs")
    await connection.close()


async def told(url: str, table: str = "users") -> str:
    """What the dashboard's source says about this server, and ours the same of its own."""
    source = PostgresSource(url, timeout=2)
    try:
        with pytest.raises(SourceUnavailable) as caught:
            await source.sample(Table(table, {}), 1)
    finally:
        await source.close()
    sentence = str(caught.value)
    assert sentence.startswith("DASHBOARD_URL: PostgreSQL")
    assert "Heron" not in sentence
    return sentence


async def _start(url: str) -> None:
    pool = await databases.connect(Settings(), url, attempts=1)
    try:
        await databases.migrate(pool, url, "UTC")
    finally:
        await pool.close()


async def told_ours(url: str) -> str:
    """What the start says about our own."""
    with pytest.raises((ConfigurationError, SourceUnavailable)) as caught:
        await _start(url)
    sentence = str(caught.value)
    assert sentence.startswith("DATABASE_URL: PostgreSQL")
    assert "Heron" not in sentence
    return sentence


async def test_a_wrong_password(server: PostgresServer, admin: asyncpg.Connection) -> None:
    for sentence in (await told(server.url("jobs:Heron-bad")), await told_ours(server.url("jobs:Heron-bad"))):
        assert f"at 127.0.0.1:{server.port} refuses the user jobs or the password; check both" in sentence
        assert "@ as %40" in sentence


async def test_a_database_that_does_not_exist(server: PostgresServer, admin: asyncpg.Connection) -> None:
    for ask in (told, told_ours):
        assert 'has no database "dahsboard"' in await ask(server.url(f"jobs:{_SECRET}", "dahsboard"))


async def test_what_has_to_be_granted(server: PostgresServer, admin: asyncpg.Connection) -> None:
    url = server.url(f"jobs:{_SECRET}")
    assert "use the table users; GRANT SELECT ON users TO that user" in await told(url)
    assert "GRANT USAGE ON SCHEMA dash" in await told(url, "dash.goals")
    assert 'GRANT CONNECT ON DATABASE closed TO "jobs"' in await told(server.url(f"jobs:{_SECRET}", "closed"))
    assert "the database postgres; GRANT CREATE ON DATABASE postgres" in await told_ours(url)


async def test_rules_of_access(server: PostgresServer, admin: asyncpg.Connection) -> None:
    server.allow(["host all all 192.0.2.0/24 trust"])
    assert "does not accept jobs from this host without TLS; add sslmode=require" in await told(
        server.url("jobs")
    )
    server.allow(["host all all all trust"])
    assert "has no role ann; create it" in await told(server.url("ann"))


async def test_an_address_where_no_postgresql_is() -> None:
    for ask in (told, told_ours):
        sentence = await ask(f"postgresql://jobs:{_SECRET}@127.0.0.1:1/jobs")
        assert "PostgreSQL at 127.0.0.1:1 refuses connections: nothing listens there" in sentence
        sentence = await ask(f"postgresql://jobs:{_SECRET}@no-such-host.invalid/jobs")
        assert "PostgreSQL at no-such-host.invalid cannot be found: no such host name" in sentence


async def test_a_server_that_keeps_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "does not answer in time" in await told(
            f"postgresql://jobs@127.0.0.1:{port}/x?sslmode=disable"
        )


async def test_a_parameter_that_is_none(server: PostgresServer) -> None:
    sentence = await told(f"{server.url()}?no_such=1")
    assert "does not know the parameter no_such of the URL; take it out" in sentence


async def test_tls(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "does not offer TLS, which the URL demands" in await told(f"{server.url()}?sslmode=require")
    for host, reason in (
        ("127.0.0.1", None),
        ("db.example", "shows a certificate for another name"),
    ):
        certificate = certificates.make(tmp_path_factory.mktemp("tls"), [host])
        with postgres_server.pgbouncer(server.port, certificate) as port:
            url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            assert "without TLS; add sslmode=require to the URL" in await told(f"{url}?sslmode=disable")
            if reason:
                trusting = f"{url}?sslmode=verify-full&sslrootcert={certificate.authority}"
                assert reason in await told(trusting)
            other = certificates.make(tmp_path_factory.mktemp("tls"))
            sentence = await told(f"{url}?sslmode=verify-full&sslrootcert={other.authority}")
            assert "not trusted here; name the file of its authority (CA) in DASHBOARD_CA_FILE" in sentence


async def test_a_pooler_is_recognised(server: PostgresServer) -> None:
    with postgres_server.pgbouncer(server.port) as port:
        for ask, prefix in ((told, "DASHBOARD"), (told_ours, "DATABASE")):
            sentence = await ask(f"postgresql://postgres@127.0.0.1:{port}/postgres")
            assert "seems to be a pooler (such as PgBouncer)" in sentence
            assert f"set {prefix}_POOLER=transaction" in sentence


@pytest.mark.parametrize(
    ("state", "message", "reason"),
    [
        ("53300", "sorry, too many clients already", "has no connection left; raise max_connections"),
        (
            "53300",
            'too many connections for role "jobs"',
            'ALTER ROLE "jobs" CONNECTION LIMIT n, or close other clients',
        ),
        ("57P03", "the database system is starting up", "is starting up or shutting down"),
        ("25006", "cannot execute INSERT in a read-only transaction", "let the URL lead to the primary"),
        ("26000", 'prepared statement "x" does not exist', "set DASHBOARD_POOLER=transaction"),
        (
            "28000",
            "no pg_hba.conf entry for host, SSL encryption",
            "from this host; allow it in its pg_hba.conf",
        ),
        (
            "22P02",
            'invalid input syntax: "Heron"',
            "refuses a statement (InvalidTextRepresentationError, 22P02)",
        ),
        ("XX000", "could not open a file", "reports: could not open a file (XX000)"),
    ],
)
def test_what_no_server_can_be_asked_for(state: str, message: str, reason: str) -> None:
    error = asyncpg.PostgresError.new({"S": "ERROR", "C": state, "M": message, "D": "Key (email)=(Heron)"})
    sentence = describe(error, Server("DASHBOARD", f"postgresql://jobs:{_SECRET}@db.example/dash"))
    assert sentence.startswith("DASHBOARD_URL: PostgreSQL at db.example ")
    assert reason in sentence
    assert "Heron" not in sentence
