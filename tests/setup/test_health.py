"""Health asks the mail server, and does not wait for one that keeps silent."""

import asyncio
from pathlib import Path

import pytest

from service.app import open_service
from service.settings import Settings
from service.setup import health
from tests.smtp_server import HANG, RecordingServer


async def test_health_answers_while_the_mail_server_hangs(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_DEADLINE", 0.3)
    links = {"FRONTEND_URL": "http://localhost:3000", "PUBLIC_URL": "http://localhost:8080"}
    async with RecordingServer(lambda phase, _: HANG if phase == "connect" else None) as server:
        smtp = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(server.port)}
        environ = {"DATABASE_URL": dsn, "DASHBOARD_URL": dsn, "DATA_DIR": str(tmp_path), **links, **smtp}
        async with open_service(Settings.load(environ)) as service, asyncio.timeout(60):
            for _ in range(5):
                check = (await service.manager.health_check())["checks"]["mail"]
                assert check["status"] == "unhealthy"
                assert "the mail server has not answered" in check["details"]["problem"]
            assert server.connections == 1
