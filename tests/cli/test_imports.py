"""What a process does not load: a client, the service; a service, what it may never need."""

import subprocess
import sys


def _loaded(script: str) -> set[str]:
    """The modules of a fresh process after ``script``."""
    program = f"import sys; {script}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_client_opens_nothing_of_the_service() -> None:
    """A command for a running service starts without databases, mails and settings."""
    loaded = _loaded("from service.cli import main; main(['--url', 'http://127.0.0.1:1', 'jobs'])")
    own = {name for name in loaded if name.startswith("service.") and not name.startswith("service.cli")}
    house = {"asyncpg", "motor", "pymongo", "pyarrow", "pydantic", "jinja2", "rich", "cryptography"}
    assert (loaded & house, own) == (set(), set())


def test_a_service_that_has_archived_nothing_has_not_loaded_pyarrow() -> None:
    """It takes 30 MB of each process: what ``serve`` imports leaves it to the first archive or export."""
    loaded = _loaded("import service.app, service.cli.local")
    assert {"service.archive.archive_parquet", "service.analytics.export"} <= loaded
    assert "pyarrow" not in loaded
