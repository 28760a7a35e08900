"""URLs as providers print them, and what becomes of their parameters."""

from pathlib import Path

import pytest

from service.engine.postgres_url import read

_BASE = "postgresql://jobs:pw@db.example/jobs"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://jobs.ref:pw@aws-0-eu-central-1.pooler.supabase.com:6543/postgres",
        "postgresql://postgres:pw@db.ref.supabase.co:6543/postgres",
        "postgresql://jobs:pw@ep-cool-name-123-pooler.eu-central-1.aws.neon.tech/jobs?sslmode=require",
        f"{_BASE}?pgbouncer=true&connection_limit=1",
        f"{_BASE}?prepared_statements=false",
        f"{_BASE}?prepareThreshold=0",
        f"{_BASE}?statement_cache_size=0",
    ],
)
def test_poolers_that_lend_by_the_transaction_are_recognised(url: str) -> None:
    assert read(url).pooled
    assert not read(url, "none").pooled
    assert read(url).options({"statement_timeout": "1"}) == {
        "statement_cache_size": 0,
        "server_settings": {"timezone": "UTC"},
    }


@pytest.mark.parametrize(
    "url",
    [
        _BASE,
        "postgresql://jobs.ref:pw@aws-0-eu-central-1.pooler.supabase.com:5432/postgres",
        "postgresql://jobs:pw@ep-cool-name-123.eu-central-1.aws.neon.tech/jobs?sslmode=require",
        "postgresql://jobs:pw@db.example:6543/jobs",
    ],
)
def test_the_others_are_not(url: str) -> None:
    assert not read(url).pooled
    assert read(url, "transaction").pooled
    assert read(url).options({"a": "1"}) == {"server_settings": {"a": "1"}}


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("", ""),
        ("?sslmode=require&channel_binding=require", "?sslmode=require"),
        ("?schema=public&connection_limit=5&pool_timeout=10&connect_timeout=3", ""),
        ("?ssl=true", "?sslmode=require"),
        ("?sslmode=no-verify", "?sslmode=require"),
        ("?host=%2Frun%2Fpg&port=5433", "?host=%2Frun%2Fpg&port=5433"),
        ("?search_path=dash&application_name=a%20b", "?search_path=dash&application_name=a%20b"),
    ],
)
def test_the_driver_gets_what_it_knows(query: str, left: str) -> None:
    assert read(f"{_BASE}{query}").url == f"{_BASE}{left}"


def test_limits_and_schemas_are_understood() -> None:
    target = read(f"{_BASE}?connection_limit=7&schema=dash")
    assert target.connections == 7
    assert target.options({"a": "1"}) == {"server_settings": {"a": "1", "search_path": '"dash"'}}


def test_what_is_not_done_is_named() -> None:
    assert read(f"{_BASE}?sslmode=require").warnings == ()
    (warning,) = read(f"{_BASE}?channel_binding=require").warnings
    assert warning.startswith("channel_binding=require: the driver cannot")
    target = read(f"{_BASE}?pgbouncer=true&search_path=dash&application_name=x&schema=other")
    assert target.url == _BASE
    assert [warning.split()[0] for warning in target.warnings] == ["search_path", "schema"]


def test_a_private_authority_means_that_the_certificate_is_verified() -> None:
    file = Path("/etc/our ca.pem")
    assert read(_BASE, ca_file=file).url == f"{_BASE}?sslmode=verify-full&sslrootcert=/etc/our%20ca.pem"
    assert read(f"{_BASE}?sslmode=verify-ca", ca_file=file).url.startswith(f"{_BASE}?sslmode=verify-ca&")
    assert "sslmode=verify-full" in read(f"{_BASE}?sslmode=require", ca_file=file).url
