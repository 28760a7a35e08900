"""A command line that is typed within the test's own process."""

import asyncio
from dataclasses import dataclass

import pytest

from service.cli import main


@dataclass(frozen=True)
class Told:
    """What a command ended with."""

    code: int
    out: bytes
    err: str

    @property
    def lines(self) -> list[str]:
        """Standard output, line by line."""
        return self.out.decode().splitlines()


@dataclass(frozen=True)
class Typist:
    """Types commands."""

    capture: pytest.CaptureFixture[bytes]

    async def __call__(self, *words: str) -> Told:
        self.capture.readouterr()
        code = await asyncio.to_thread(main, list(words))
        out, err = self.capture.readouterr()
        return Told(code, out, err.decode())


@pytest.fixture
def typed(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Typist:
    for name in ("JOBS_URL", "JOBS_TOKEN", "JOBS_TOKEN_FILE", "ADMIN_TOKEN", "ADMIN_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    return Typist(capfdbinary)
