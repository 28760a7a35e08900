"""Where the time of the event loop's thread goes while mails are sent, stage by stage.

``install`` wraps the functions of the delivery path. Each stretch of CPU time of the thread belongs to the
innermost of them that is running, or to none. A coroutine counts while it runs, not while it waits.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from typing import Any

from asyncpg.protocol.protocol import Protocol

from service.dashboard.sync import Sync
from service.messages.delivery import DeliveryLoop
from service.messages.delivery_answers import DeliveryAnswers
from service.messages.delivery_checks import DeliveryChecks
from service.messages.mail.compose import Composer
from service.messages.mail.smtp import SmtpPool
from service.messages.mail.smtp_connection import SmtpConnection
from service.messages.outbox import Outbox
from service.messages.record_writer import RecordWriter

CLAIM, ASK, CHECK, COMPOSE = "claim", "ask the dashboard", "check", "compose"
WRITE, MARKS, REPLIES = "queue and SMTP", "marks and answers", "PostgreSQL's replies"
STAGES = (CLAIM, ASK, CHECK, COMPOSE, WRITE, MARKS, REPLIES)

COROUTINES: tuple[tuple[type, str, str], ...] = (
    (DeliveryLoop, "_feed", CLAIM),
    (DeliveryLoop, "_claim", CLAIM),
    (Outbox, "claim", CLAIM),
    (Sync, "current_state", ASK),
    (DeliveryChecks, "check", CHECK),
    (RecordWriter, "serve", MARKS),
)
FUNCTIONS: tuple[tuple[type, str, str], ...] = (
    (Composer, "compose", COMPOSE),
    (DeliveryLoop, "ready", WRITE),
    (SmtpPool, "wake", WRITE),
    (SmtpConnection, "data_received", WRITE),
    (SmtpConnection, "resume_writing", WRITE),
    (SmtpConnection, "_granted", WRITE),
    (RecordWriter, "request_dot", MARKS),
    (RecordWriter, "_now", MARKS),
    (DeliveryAnswers, "answered", MARKS),
    (Protocol, "data_received", REPLIES),  # of claims, marks and answers alike
)


class Stopwatch:
    """CPU time of one thread by stage. ``seconds``: of each stage so far."""

    def __init__(self, now: Callable[[], float] = time.thread_time) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._now = now
        self._running: list[str] = []
        self._since = 0.0

    def enter(self, stage: str) -> None:
        """This stage begins inside the one that is running."""
        now = self._now()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._running.append(stage)
        self._since = now

    def leave(self) -> None:
        """The innermost stage ends, or waits."""
        now = self._now()
        self.seconds[self._running.pop()] += now - self._since
        self._since = now

    def install(self) -> None:
        """Wrap the functions of the delivery path, for the rest of this process."""
        for owner, name, stage in COROUTINES:
            setattr(owner, name, self.coroutine(getattr(owner, name), stage))
        for owner, name, stage in FUNCTIONS:
            setattr(owner, name, self.function(getattr(owner, name), stage))

    def function(self, work: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """The same function, measured."""

        @wraps(work)
        def measured(*args: Any, **options: Any) -> Any:
            self.enter(stage)
            try:
                return work(*args, **options)
            finally:
                self.leave()

        return measured

    def coroutine(
        self, work: Callable[..., Coroutine[Any, Any, Any]], stage: str
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        """The same function, measured while it runs."""

        @wraps(work)
        async def measured(*args: Any, **options: Any) -> Any:
            return await _Measured(self, stage, work(*args, **options))

        return measured


class _Measured:
    """A coroutine of which each step is measured."""

    def __init__(self, watch: Stopwatch, stage: str, work: Coroutine[Any, Any, Any]) -> None:
        self._watch, self._stage, self._work = watch, stage, work

    def __await__(self) -> Generator[Any, Any, Any]:
        answer: Any = None
        error: BaseException | None = None
        while True:
            self._watch.enter(self._stage)
            try:
                waits = self._work.throw(error) if error else self._work.send(answer)
            except StopIteration as end:
                return end.value
            finally:
                self._watch.leave()
            try:
                answer, error = (yield waits), None
            except GeneratorExit:
                self._work.close()
                raise
            except BaseException as thrown:  # noqa: BLE001 — a cancellation is passed on
                error = thrown
