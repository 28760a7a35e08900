"""Trouble with the dashboard's MongoDB is told with its remedy, on real servers; secrets are not."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, ServerSelectionTimeoutError

from service.dashboard.mongo import MongoSource
from service.dashboard.mongo_errors import describe
from service.dashboard.profiles.shapes import Table
from service.dashboard.sync import Sync
from service.dashboard.sync_settings import SyncSettings
from service.errors import ConfigurationError, SourceUnavailable
from tests import certificates, mongo
from tests.certificates import Certificate
from tests.story.watching import until_true

_SECRET = "Heron-owl"


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """A server with accounts, as ``{}@host/``: ``nobody`` may nothing, ``reader`` may read."""
    with mongo.guarded() as (address, client):
        _fill(client)
        yield address


def _fill(client: MongoClient[dict[str, Any]]) -> None:
    client["dash"]["users"].insert_one({"name": "Ann", "email": "ann@example.org"})
    finding = [{"resource": {"db": "dash", "collection": ""}, "actions": ["find", "listCollections"]}]
    client["dash"].command("createRole", "finds", privileges=finding, roles=[])
    for name, roles in (
        ("nobody", []),
        ("reader", [{"role": "read", "db": "dash"}]),
        ("finder", [{"role": "finds", "db": "dash"}]),
    ):
        client["admin"].command("createUser", name, pwd=_SECRET, roles=roles)


async def told(url: str, *, timeout: float = 0.5) -> str:
    """What reading says about this server."""
    source = MongoSource(url, database="dash", timeout=timeout)
    try:
        with pytest.raises((SourceUnavailable, ConfigurationError)) as caught:
            await source.sample(Table("users", {}), 1)
    finally:
        await source.close()
    sentence = str(caught.value)
    assert sentence.startswith("DASHBOARD_URL: ")
    assert "Heron" not in sentence
    return sentence


async def test_a_wrong_password_and_a_user_of_another_database(guarded: str) -> None:
    for url in (guarded.format("reader:Heron-bad"), guarded.format(f"reader:{_SECRET}") + "dash"):
        sentence = await told(url, timeout=10)
        assert "MongoDB refuses the user or the password" in sentence
        assert "?authSource=admin" in sentence


async def test_no_user_and_one_without_a_role(guarded: str) -> None:
    assert "wants a user and a password" in await told(guarded.format("").replace("@", ""), timeout=10)
    sentence = await told(guarded.format(f"nobody:{_SECRET}"), timeout=10)
    assert (
        "does not let the user of the URL read users; grant it the role read on the database dash" in sentence
    )


@pytest.mark.parametrize(
    ("user", "reason"),
    [("finder", "may not open one; the role read on the whole database"), ("reader", "no replica set")],
)
async def test_a_server_without_a_change_stream_for_us_is_compared(
    pool: asyncpg.Pool, guarded: str, user: str, reason: str
) -> None:
    """It is no replica set; who may not open a stream is told that first."""
    source = MongoSource(guarded.format(f"{user}:{_SECRET}"), database="dash", timeout=10)
    settings = SyncSettings(interval=0.1, compare_people_every=timedelta(0))
    sync, stop = Sync(pool, source, settings), asyncio.Event()
    serving = asyncio.create_task(sync.serve(stop))

    async def found() -> bool:
        return bool(sync.health()["change_stream"]["state"] == "none")

    await until_true(found)
    await until_true(lambda: pool.fetchval("SELECT swept_at > synced_at FROM service.sync_state LIMIT 1"))
    stop.set()
    await serving
    await source.close()
    health = sync.health()
    assert health["healthy"]
    assert reason in health["change_stream"]["reason"]
    assert "Heron" not in health["change_stream"]["reason"]


async def test_tls_of_a_server_that_has_none(guarded: str) -> None:
    sentence = await told(guarded.format(f"reader:{_SECRET}") + "?tls=true")
    assert "does not offer TLS, which the URL demands" in sentence


async def test_an_address_where_no_mongodb_is() -> None:
    sentence = await told(f"mongodb://jobs:{_SECRET}@127.0.0.1:1,no-such-host.invalid:5/?replicaSet=x")
    assert "at 127.0.0.1:1 refuses connections: nothing listens there" in sentence
    assert "at no-such-host.invalid:5 cannot be found: no such host name" in sentence


async def test_a_replica_set_of_another_name(mongod: str) -> None:
    sentence = await told(mongod.replace("directConnection=true", "replicaSet=other"))
    assert "has no member of the replica set that the URL names" in sentence


@pytest.fixture(scope="module", params=["127.0.0.1", "db.example"])
def private(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server that demands TLS: the host of its certificate, that certificate, and its URL."""
    certificate = certificates.make(tmp_path_factory.mktemp("tls"), [request.param])
    with mongo.with_tls(certificate) as port:
        yield request.param, certificate, f"mongodb://127.0.0.1:{port}/"


async def test_tls_and_a_private_authority(private: tuple[str, Certificate, str], tmp_path: Path) -> None:
    host, certificate, url = private
    assert "if it demands TLS, add tls=true to the URL" in await told(url)
    sentence = await told(f"{url}?tls=true")
    assert "not trusted here; name the file of its authority (CA) in DASHBOARD_CA_FILE" in sentence
    source = MongoSource(url, database="dash", ca_file=certificate.authority)
    trusting = f"{url}?tls=true&tlsCAFile={certificate.authority}"
    if host == "127.0.0.1":
        assert await source.table_names() == frozenset()
    else:
        assert "shows a certificate for another name" in await told(trusting)
    await source.close()
    assert "the MongoDB driver refuses it" in await told(f"{url}?tls=true&tlsCAFile={tmp_path}/none.pem")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ServerSelectionTimeoutError("No primary available, Timeout: 5s"), "has no primary at the moment"),
        (AutoReconnect("db:27017: timed out (configured timeouts)"), "MongoDB at db:27017 does not answer"),
        (ServerSelectionTimeoutError("Got response id 8, Timeout: 5s"), "does not answer as a MongoDB does"),
        (ValueError("a document"), "a document that cannot be read (ValueError)"),
    ],
)  # fmt: skip
def test_what_no_server_can_be_asked_for(error: Exception, reason: str) -> None:
    assert reason in describe(error)
