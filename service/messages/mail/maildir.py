"""The local inbox: mails as files in a Maildir, for the demo and for development."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from service.messages.mail.transport import (
    BeforeDot,
    Envelope,
    OnResult,
    SendResult,
    ShouldSend,
    SmtpPhase,
    always,
)


class MaildirTransport:
    """Writes each mail to ``tmp`` and renames it into ``new``, so that no part of a mail is ever visible.

    The file's name is the delivery's id, so that the same mail written twice is one file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in ("tmp", "new", "cur"):
            (folder / part).mkdir(parents=True, exist_ok=True)

    async def send(
        self,
        envelopes: Sequence[Envelope],
        before_dot: BeforeDot,
        on_result: OnResult,
        should_send: ShouldSend = always,
    ) -> None:
        """Write the mails that ``before_dot`` grants, in order."""
        envelopes = list(filter(should_send, envelopes))
        granted = await before_dot([envelope.id for envelope in envelopes])
        for envelope in envelopes:
            if envelope.id not in granted:
                await on_result(
                    SendResult(
                        id=envelope.id,
                        accepted=False,
                        phase=SmtpPhase.CONTENT,
                        code=None,
                        reply="no longer ours",
                    )
                )
                continue
            await on_result(await asyncio.to_thread(self._write, envelope))

    def _write(self, envelope: Envelope) -> SendResult:
        name = f"{envelope.id:012d}.mail"
        try:
            (self.folder / "tmp" / name).write_bytes(envelope.content)
            os.replace(self.folder / "tmp" / name, self.folder / "new" / name)
        except OSError as error:
            return SendResult(
                id=envelope.id,
                accepted=False,
                phase=SmtpPhase.DATA,
                code=452,
                reply=f"4.3.1 {error.strerror}",
            )
        return SendResult(
            id=envelope.id, accepted=True, phase=SmtpPhase.DOT, code=250, reply=f"2.0.0 kept as {name}"
        )

    async def ping(self) -> str | None:
        """None when the folder can be written."""
        return None if os.access(self.folder / "tmp", os.W_OK) else f"{self.folder} cannot be written"

    async def close(self) -> None:
        """Nothing to close."""
