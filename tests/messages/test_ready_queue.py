"""The queue of ready mails: a domain's places, rate, share of the queue and pauses; nothing is lost in it.

The clock is the test's own: connections are played by the test, which pulls whenever it likes.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.messages.limits import UNLIMITED, DomainLimit, DomainLimits
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase
from service.messages.outbox import Settlement
from service.messages.ready_queue import FOREVER, ReadyMail, ReadyQueue
from service.messages.record_writer import RecordWriter
from tests.given import claimed_delivery

NINE = datetime(2026, 3, 10, 9, tzinfo=UTC)


@dataclass
class Told:
    """What the queue tells."""

    begun: list[int] = field(default_factory=list)
    answered_: list[int] = field(default_factory=list)
    unsent_: list[int] = field(default_factory=list)
    refusals: int = 0

    def begins(self, mail: ReadyMail) -> None:
        self.begun.append(mail.claimed.id)

    def answered(self, mail: ReadyMail, result: SendResult) -> None:
        self.answered_.append(mail.claimed.id)

    def unsent(self, mail: ReadyMail) -> None:
        self.unsent_.append(mail.claimed.id)

    def refused(self, phase: SmtpPhase, code: int | None, reply: str) -> None:
        self.refusals += 1


class Bench:
    """A queue, its clock, and mails to put in."""

    def __init__(self, limits: str = "", rate: float = 0.0) -> None:
        self.seconds = 1000.0
        self.told = Told()
        self.settled: list[Settlement] = []
        self.grants: dict[int, Callable[[bool], None]] = {}
        self.writer = _Writer(self)
        self.queue = ReadyQueue(
            DomainLimits.parse(limits), self.writer, self.told, now=lambda: self.seconds, rate=rate
        )
        self.ids = 0

    def put(self, domain: str, count: int = 1, **changes: Any) -> list[ReadyMail]:
        """So many mails to a domain: claimed, reserved, and ready."""
        mails = []
        for _ in range(count):
            self.ids += 1
            claimed = claimed_delivery(
                id=self.ids, domain=domain, address=f"u{self.ids}@{domain}", claimed_at=NINE, **changes
            )
            mails.append(
                ReadyMail(claimed, Envelope(self.ids, "a@example.org", claimed.address, b""), self.seconds)
            )
        self.queue.reserve([mail.claimed for mail in mails])
        for mail in mails:
            self.queue.add(mail)
        return mails

    def pull(self, most: int = 1000) -> list[int]:
        """What connections get that pull as long as there is something."""
        pulled: list[int] = []
        while len(pulled) < most and (envelope := self.queue.next()):
            pulled.append(envelope.id)
        return pulled

    def answer(self, id_: int) -> None:
        self.queue.answered(SendResult(id_, accepted=True, phase=SmtpPhase.DOT, code=250, reply="ok"))


class _Writer(RecordWriter):
    """Grants when the test says so."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def request_dot(self, claimed: Any, granted: Callable[[bool], None]) -> None:
        self._bench.grants[claimed.id] = granted

    def settle(self, settlement: Settlement, written: Callable[[bool | None], None] | None = None) -> None:
        self._bench.settled.append(settlement)


# ── Places ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_more_than_its_places_are_under_way_to_a_domain() -> None:
    bench = Bench("slow.example=2/0")
    slow = bench.put("slow.example", 5)
    others = bench.put("example.org", 3)

    assert sorted(bench.pull()) == sorted([m.claimed.id for m in slow[:2]] + [m.claimed.id for m in others])
    bench.answer(slow[0].claimed.id)
    assert bench.pull() == [slow[2].claimed.id]


def test_domains_take_turns() -> None:
    bench = Bench()
    bench.put("a.example", 3)
    bench.put("b.example", 3)

    assert bench.pull(4) == [1, 4, 2, 5]


def test_what_a_connection_gives_back_is_the_next_one_again() -> None:
    bench = Bench("*=1/0")
    first, second = bench.put("example.org", 2)
    assert bench.pull() == [first.claimed.id]

    bench.queue.give_back(first.envelope)

    assert bench.pull() == [first.claimed.id]
    bench.answer(first.claimed.id)
    assert bench.pull() == [second.claimed.id]


# ── Rates ───────────────────────────────────────────────────────────────────────────────────────────────────


async def _starts(bench: Bench, count: int, step: float = 0.125) -> dict[int, float]:
    """When each of so many mails began, pulling again and again while the time passes."""
    began: dict[int, float] = {}
    while len(began) < count:
        began |= dict.fromkeys(bench.pull(), bench.seconds)
        bench.seconds += step
    return began


@pytest.mark.parametrize("rate", [0.5, 4.0, 8.0])
async def test_the_rate_of_all_spaces_every_mail(rate: float) -> None:
    bench = Bench(rate=rate)
    bench.put("example.org", 5)
    bench.put("example.net", 5)

    times = sorted((await _starts(bench, 10)).values())

    assert times == [1000 + n / rate for n in range(10)]


@pytest.mark.parametrize("rate", [0.25, 2.0, 4.0])
async def test_a_domains_rate_is_its_own(rate: float) -> None:
    bench = Bench(f"slow.example=0/{rate}")
    slow = {mail.claimed.id for mail in bench.put("slow.example", 6)}
    bench.put("example.org", 20)

    began = await _starts(bench, 26)

    assert sorted(at for id_, at in began.items() if id_ in slow) == [1000 + n / rate for n in range(6)]
    assert {at for id_, at in began.items() if id_ not in slow} == {1000.0}


async def test_both_rates_hold_together() -> None:
    bench = Bench("slow.example=0/2", rate=4.0)
    slow = {mail.claimed.id for mail in bench.put("slow.example", 5)}
    bench.put("example.org", 5)

    began = await _starts(bench, 10)

    times, own = sorted(began.values()), sorted(at for id_, at in began.items() if id_ in slow)
    assert all(later - earlier >= 0.25 for earlier, later in pairwise(times))
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(own))


async def test_slots_that_nobody_used_are_not_saved_up() -> None:
    bench = Bench(rate=4.0)
    bench.put("example.org", 1)
    assert bench.pull() == [1]
    bench.seconds += 100
    bench.put("example.org", 3)

    assert bench.pull() == [2]


async def test_connections_are_woken_when_a_rate_allows_the_next() -> None:
    woken = asyncio.Event()
    bench = Bench("example.org=0/50")
    bench.queue._wake = woken.set
    bench.put("example.org", 2)
    assert bench.pull() == [1]

    await woken.wait()

    bench.seconds += 0.02
    assert bench.pull() == [2]


# ── Room for claims ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_domain_with_a_rate_gets_two_seconds_of_it() -> None:
    bench = Bench("slow.example=0/3")
    assert bench.queue.capacities() == {"slow.example": 6}
    bench.put("slow.example", 4)
    assert bench.queue.capacities()["slow.example"] == 2
    assert len(bench.pull()) == 1
    assert bench.queue.capacities()["slow.example"] == 2


def test_a_share_doubles_when_it_ran_dry_and_shrinks_when_mails_grow_old() -> None:
    bench = Bench("*=5/0")
    assert bench.queue.others == 10
    sizes = []
    for _ in range(5):
        size = bench.queue.capacities().get("example.org", bench.queue.others)
        sizes.append(size)
        bench.put("example.org", size)
        while ids := bench.pull():
            for id_ in ids:
                bench.answer(id_)
    assert sizes == [10, 20, 40, 80, 100]

    bench.put("example.org", 100)
    bench.seconds += 6
    assert len(bench.queue.too_old(5)) == 100
    assert bench.queue.capacities()["example.org"] == 50


def test_without_a_limit_a_claim_may_take_all() -> None:
    assert Bench().queue.others == UNLIMITED


def test_while_a_probe_is_under_way_no_other_mail_of_its_domain_is_claimed() -> None:
    bench = Bench()
    (probe,) = bench.put("slow.example", probe=True)
    assert bench.queue.capacities()["slow.example"] == 0
    assert bench.pull() == [probe.claimed.id]
    assert bench.queue.capacities()["slow.example"] == 0

    bench.answer(probe.claimed.id)

    assert bench.queue.capacities()["slow.example"] == UNLIMITED


# ── Pauses, and what may not be sent ────────────────────────────────────────────────────────────────────────


def test_a_paused_domain_loses_its_mails_and_gets_none_that_were_claimed_before() -> None:
    bench = Bench()
    bench.put("slow.example", 3)
    waiting = [mail.claimed.id for mail in bench.queue.pause("slow.example", FOREVER)]
    assert waiting == [1, 2, 3]
    assert bench.queue.capacities()["slow.example"] == 0

    late = bench.put("slow.example")
    bench.queue.pause("slow.example", NINE + timedelta(minutes=1))
    later = bench.put("slow.example")

    assert bench.told.unsent_ == [late[0].claimed.id, later[0].claimed.id]
    assert bench.pull() == []
    claimed = claimed_delivery(id=99, domain="slow.example", claimed_at=NINE + timedelta(minutes=2))
    bench.queue.reserve([claimed])
    bench.queue.add(ReadyMail(claimed, Envelope(99, "a", "b", b""), bench.seconds))
    assert bench.pull() == [99]


def test_what_is_given_back_after_its_domain_was_paused_is_not_sent() -> None:
    bench = Bench()
    (mail,) = bench.put("slow.example")
    bench.pull()
    bench.queue.pause("slow.example", NINE + timedelta(minutes=1))

    bench.queue.give_back(mail.envelope)

    assert bench.told.unsent_ == [1]
    assert bench.pull() == []


def test_a_pause_that_could_not_be_stored_is_none() -> None:
    bench = Bench()
    bench.queue.pause("slow.example", FOREVER)
    bench.queue.pause("slow.example", None)
    bench.put("slow.example")

    assert bench.pull() == [1]


def test_no_dot_is_asked_for_what_was_checked_long_ago() -> None:
    bench = Bench()
    bench.put("example.org")
    asked: list[bool] = []
    bench.pull()
    bench.seconds += 61

    bench.queue.request_dot(1, asked.append)

    assert (asked, bench.grants, bench.told.unsent_) == ([False], {}, [1])


def test_while_it_is_closed_nothing_begins() -> None:
    bench = Bench()
    bench.put("example.org")
    bench.queue.closed = lambda: True

    assert bench.pull() == []


def test_a_dot_that_is_refused_is_told_and_written_by_nobody() -> None:
    bench = Bench("*=1/0")
    bench.put("example.org", 2)
    asked: list[bool] = []
    assert bench.pull() == [1]
    bench.queue.request_dot(1, asked.append)

    bench.grants[1](False)

    assert asked == [False]
    assert bench.told.unsent_ == [1]
    assert bench.pull() == [2]


def test_a_dot_that_is_granted_after_a_stop_is_taken_back() -> None:
    bench = Bench()
    (mail,) = bench.put("example.org")
    asked: list[bool] = []
    bench.pull()
    bench.queue.request_dot(1, asked.append)
    bench.queue.give_back(mail.envelope)
    assert bench.told.unsent_ == [1]

    bench.grants[1](True)

    assert asked == []
    assert [(one.id, one.state, one.unwritten, one.refund) for one in bench.settled] == [
        (1, "planned", True, True)
    ]


# ── Any order of events ─────────────────────────────────────────────────────────────────────────────────────

_DOMAINS = st.sampled_from(["a.example", "b.example", "c.example"])
_LIMITS = st.builds(DomainLimit, st.integers(0, 3), st.sampled_from([0.0, 0.25, 1.0, 3.0, 20.0]))
_ACTS = st.sampled_from(["claim", "pull", "answer", "give back", "wait", "pause", "old"])


@given(
    named=st.dictionaries(_DOMAINS, _LIMITS),
    others=_LIMITS,
    acts=st.lists(st.tuples(_ACTS, _DOMAINS, st.integers(1, 8)), max_size=60),
)
def test_whatever_happens_the_limits_hold_and_nothing_is_lost(
    named: dict[str, DomainLimit], others: DomainLimit, acts: Sequence[tuple[str, str, int]]
) -> None:
    bench = Bench()
    limits = DomainLimits(others, named)
    bench.queue = ReadyQueue(limits, bench.writer, bench.told, now=lambda: bench.seconds)
    bench.queue._call_at = lambda at, now: None  # type: ignore[method-assign]  # the test pulls by itself
    mails: dict[int, ReadyMail] = {}
    under_way: dict[int, str] = {}
    began: dict[str, list[float]] = {}
    gone = 0
    for act, domain, count in acts:
        if act == "claim":
            room = bench.queue.capacities().get(domain, bench.queue.others)
            for mail in bench.put(domain, min(count, room)):
                mails[mail.claimed.id] = mail
        elif act == "pull":
            for id_ in bench.pull(count):
                name = mails[id_].claimed.domain
                under_way[id_] = name
                began.setdefault(name, []).append(bench.seconds)
        elif act in {"answer", "give back"} and under_way:
            id_, _ = under_way.popitem()
            if act == "answer":
                bench.answer(id_)
                gone += 1
            else:
                bench.queue.give_back(mails[id_].envelope)
        elif act == "wait":
            bench.seconds += count / 8
        elif act == "old":
            gone += len(bench.queue.too_old(1.0))
        elif act == "pause":
            gone += len(bench.queue.pause(domain, NINE - timedelta(seconds=1)))
        for name, now in Counter(under_way.values()).items():
            assert not limits.of(name).at_once or now <= limits.of(name).at_once
        assert bench.queue.waiting + bench.queue.sending + gone == len(mails)
        assert bench.queue.sending == len(under_way)
    for name, times in began.items():
        if per_second := limits.of(name).per_second:
            assert all(later - earlier >= 1 / per_second - 1e-9 for earlier, later in pairwise(times))
