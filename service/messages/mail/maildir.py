"""The local inbox: mails as files in a Maildir, for the demo and for development."""

import asyncio
import os
from pathlib import Path

from service.messages.mail.mail_queue import CheckedQueue, NoMail
from service.messages.mail.smtp_message import rejection
from service.messages.mail.transport import (
    Envelope,
    MailQueue,
    SendResult,
    SmtpPhase,
)


class MaildirTransport:
    """Writes each mail to ``tmp`` and renames it into ``new``, so that no part of a mail is ever visible.

    The file's name is the delivery's id, so that the same mail written twice is one file. One mail is written
    at a time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in ("tmp", "new", "cur"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self._mails = CheckedQueue(NoMail())
        self._current: Envelope | None = None  # its dot is not granted yet
        self._writing: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """It has none."""
        return 0

    @property
    def in_use(self) -> int:
        """It has none."""
        return 0

    def start(self, queue: MailQueue) -> None:
        """Write what this queue holds, from the next ``wake`` on."""
        self._mails = CheckedQueue(queue)

    def wake(self, at_most: int | None = None) -> None:
        """There is (again) something in the queue."""
        if self._current is None and self._writing is None:
            self._current = self._mails.next()
            if self._current:
                self._mails.queue.request_dot(self._current.id, self._granted)

    def _granted(self, granted: bool) -> None:  # noqa: FBT001
        envelope, self._current = self._current, None
        if envelope and granted:
            self._writing = asyncio.ensure_future(self._write_and_answer(envelope))
        elif envelope:
            self.wake()

    async def _write_and_answer(self, envelope: Envelope) -> None:
        result = await asyncio.to_thread(self._write, envelope)
        self._writing = None
        self._mails.queue.answered(result)
        self.wake()

    async def stop(self, seconds: float) -> None:
        """Pull nothing more; the mail that is being written ends within ``seconds``."""
        self._mails.stopped = True
        envelope, self._current = self._current, None
        if envelope:
            self._mails.queue.give_back(envelope)
        if self._writing:
            await asyncio.wait({self._writing}, timeout=seconds)

    async def send_one(self, envelope: Envelope) -> SendResult:
        """Write one mail."""
        refusal = rejection(envelope)
        return refusal if refusal else await asyncio.to_thread(self._write, envelope)

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

    async def ping(self, *, at_once: bool = False) -> str | None:
        """None when the folder can be written."""
        return None if os.access(self.folder / "tmp", os.W_OK) else f"{self.folder} cannot be written"

    async def close(self) -> None:
        """Nothing to close."""
