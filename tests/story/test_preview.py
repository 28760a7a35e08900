"""An operator looks at mails on the command line, and sends one to themselves."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.demo import sample
from tests.process import process_of
from tests.smtp_server import RecordingServer


async def told(
    folder: Path, dsn: str, *arguments: str, smtp: int | None = None, **more: str
) -> tuple[int, str, str]:
    """Exit code, output and errors of ``python -m service preview …``."""
    environ = {"DATABASE_URL": dsn, "DASHBOARD_URL": dsn, **more}
    if smtp:
        environ |= {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(smtp), "SMTP_SECURITY": "none"}
        environ |= {"FRONTEND_URL": "http://localhost:3000", "PUBLIC_URL": "http://localhost:8080"}
    (folder / "data").mkdir(exist_ok=True)
    async with process_of(folder / "data", "preview", *arguments, **environ) as (process, _):
        async with asyncio.timeout(120):
            code = await process.wait()
    return code, (folder / "stdout").read_text("utf-8"), (folder / "stderr").read_text("utf-8")


@pytest.fixture
async def dashboard(dsn: str) -> str:
    """A dashboard in the same database as the service's own tables."""
    await sample.write(dsn, sample.people(1, datetime.now(UTC).date(), 20))
    return dsn


async def test_a_sample_is_printed_in_each_form(tmp_path: Path, dashboard: str) -> None:
    code, text, errors = await told(tmp_path, dashboard, "weeklyReview", "--variant", "quiet")
    assert (code, errors) == (0, "")
    assert text.startswith("Your week: 0 min focused")
    assert "You get this because weekly reviews are on." in text

    code, source, _ = await told(tmp_path, dashboard, "dailyCheck", "--format", "source")
    assert code == 0
    assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click" in source


async def test_links_lead_to_this_machine_where_the_container_listens_for_everybody(
    tmp_path: Path, dashboard: str
) -> None:
    code, source, _ = await told(
        tmp_path, dashboard, "dailyCheck", "--format", "source", HOST="0.0.0.0", ADMIN_TOKEN="a" * 16
    )
    assert code == 0
    assert re.search(r"^List-Unsubscribe: <http://127\.0\.0\.1:\d+/u/", source, re.MULTILINE)
    assert "0.0.0.0" not in source


async def test_what_cannot_be_shown_is_one_clear_line(tmp_path: Path, dashboard: str) -> None:
    code, text, errors = await told(tmp_path, dashboard, "weeklyReview", "--user", "nobody")
    assert (code, text) == (1, "")
    assert "Unknown user: nobody" in errors

    code, text, errors = await told(tmp_path, dashboard, "weeklyReview", "--variant", "nothing")
    assert (code, text) == (2, "")
    assert "variant must be one of full, quiet, final" in errors


async def test_a_test_mail_goes_to_the_given_address(tmp_path: Path, dashboard: str) -> None:
    async with RecordingServer() as server:
        code, text, errors = await told(
            tmp_path, dashboard, "monthlyReport", "--to", "me@example.org", smtp=server.port
        )

    assert (code, errors) == (0, "")
    [accepted] = server.accepted
    assert accepted.recipient == "me@example.org"
    assert accepted.message_id.partition("@")[0] in text.replace("\n", "")
