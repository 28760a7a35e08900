"""Mails per second of goalDeadlines, and what each costs: ``python -m benchmarks.reminder_run [PEOPLE]``.

PEOPLE (10,000; or 100,000, 1,000,000) with a goal each, of whom all (few people) or every fifth get a mail,
by ordinary replicas of this service, to a recording SMTP server in a process of its own. In the same rounds,
over the same server: ready-made bytes over the service's own pool, and the peers of ``benchmarks.peers``.
Everybody takes a turn in each round; the figures are medians. Ratios are what counts; machines differ.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from benchmarks.mail_server import mail_server
from benchmarks.peers import peer
from benchmarks.peers.nodemailer import NODEMAILER
from benchmarks.peers.peer import CannotInstall, InstalledPeer, Peer, PeerPlace
from benchmarks.peers.post_office import POST_OFFICE
from benchmarks.reminder_people import due_every, fill_postgres, write_recipients
from benchmarks.reminder_report import RAW, Figures, as_json, as_text
from benchmarks.reminder_words import ready_mail, write_template
from benchmarks.service_run import Case, Place, load, measure
from benchmarks.smtp_pool import send_ready
from service import log
from service.clock import SystemClock
from service.engine import embedded
from service.messages.mail.smtp import SmtpConfig, SmtpPool
from service.messages.mail.transport import Envelope
from service.setup.databases import ensure_database
from tests import mongo

CASES = (
    Case(),
    Case(processes=2),
    Case(dashboard="postgresql"),
    Case(level="info"),
    Case(stages=True),
)
PEERS = (POST_OFFICE, NODEMAILER)
_PROCESSES = (1, 2)
_RAW_MAILS = 5_000
_PEER_MAILS = 20_000
"""Peers get as many mails as the service, but not more than this."""

_ABOUT = "Mails per second of goalDeadlines, and what each costs, beside other senders of mail."

Contender = Callable[[], Awaitable[Mapping[str, float]]]


async def raw_pool(content: bytes, mails: int = _RAW_MAILS) -> dict[str, float]:
    """Ready-made bytes over the service's own pool, nothing recorded."""
    with mail_server() as port:
        config = SmtpConfig("127.0.0.1", port, "none", connections=peer.CONNECTIONS)
        pool = SmtpPool(config, SystemClock())
        rate = await send_ready(
            pool, [Envelope(n, "a@example.org", f"b{n}@example.org", content) for n in range(mails)]
        )
        await pool.close()
    return {"steady_per_s": rate}


@asynccontextmanager
async def places(folder: Path, people: int, kinds: set[str]) -> AsyncIterator[dict[str, Place]]:
    """A PostgreSQL server, and a filled dashboard of each kind; where the service can run, by kind."""
    now, every = datetime.now(UTC), due_every(people)
    async with AsyncExitStack() as stack:
        dsn, server = embedded.start(folder / "postgres")
        stack.callback(server.stop)
        urls: dict[str, str] = {}
        if "postgresql" in kinds:
            apart, other = embedded.start(folder / "dashboard")  # its CPU is not ours
            stack.callback(other.stop)
            urls["postgresql"] = await ensure_database(apart, "dashboard")
            await fill_postgres(urls["postgresql"], people, now, every)
        if "mongodb" in kinds and mongo.BINARY.exists():
            member = stack.enter_context(mongo.replica_set())
            urls["mongodb"] = member.url.replace("/?", "/dashboard?")
            filler = [sys.executable, "-m", "benchmarks.reminder_people", urls["mongodb"], str(people)]
            await asyncio.to_thread(subprocess.run, filler, check=True)
        yield {kind: Place(folder, dsn, f"base_{kind}", url) for kind, url in urls.items()}


def install(peers: Sequence[Peer], folder: Path, figures: Figures) -> list[InstalledPeer]:
    """Those that can be installed; the others are noted."""
    ready = []
    for one in peers:
        own = folder / one.name.partition(" ")[0]
        own.mkdir(parents=True, exist_ok=True)
        try:
            ready.append(InstalledPeer(one, one.install(own)))
        except CannotInstall as error:
            figures.skipped[one.name] = str(error)
    return ready


async def compare(
    people: int,
    rounds: int,
    folder: Path,
    peers_folder: Path,
    *,
    cases: Sequence[Case] = CASES,
    peers: Sequence[Peer] = PEERS,
) -> Figures:
    """Everybody in turn, so many times."""
    mails = write_recipients(folder / "recipients", people, _PEER_MAILS)
    write_template(folder / "template")
    figures = Figures(people, len(range(0, people, due_every(people))))
    installed = install(peers, peers_folder, figures)
    async with places(folder, people, {case.dashboard for case in cases}) as found:
        figures.loads = {kind: await load(place) for kind, place in found.items()}
        for case in cases:
            if case.dashboard not in found:
                figures.skipped[case.name] = f"there is no {case.dashboard} here"
        contenders: dict[str, Contender] = {
            case.name: partial(measure, found[case.dashboard], case)
            for case in cases
            if case.dashboard in found
        }
        contenders[RAW] = partial(raw_pool, ready_mail(), min(_RAW_MAILS, people))
        server = next(iter(found.values())).server
        place = PeerPlace(folder, server, folder / "recipients", folder / "template", mails)
        for one in installed:
            for processes in _PROCESSES:
                name = f"{one.peer.name}, {processes} process{'es' * (processes > 1)}"
                contenders[name] = partial(peer.measure, place, one, processes)
        try:
            for _ in range(rounds):
                for name, contender in contenders.items():
                    await _take_turn(name, contender, figures)
        except asyncio.CancelledError:  # Ctrl-C: what has been measured is told
            print("stopped before the end", file=sys.stderr)
    return figures


async def _take_turn(name: str, contender: Contender, figures: Figures) -> None:
    """One that fails does not take the others' figures with it."""
    try:
        result = await contender()
    except (RuntimeError, AssertionError) as error:
        figures.skipped[name] = f"it failed: {error}"
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return
    figures.add(name, result)
    load_average = os.getloadavg()[0]
    steady = result["steady_per_s"]
    print(f"{name}: {steady:,.0f} mails/s, load average {load_average:.1f}", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reminder_run", description=_ABOUT)
    parser.add_argument("people", nargs="?", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers-dir", type=Path, help="where peers are installed, and stay; else: nowhere")
    parser.add_argument("--no-peers", action="store_true", help="measure this service and its pool only")
    parser.add_argument("--case", help="only cases whose names hold this, e.g. stages")
    return parser.parse_args()


def main() -> None:
    """Compare, and print the tables and the line of JSON."""
    log.configure("error", json=True)
    options = _arguments()
    cases = [case for case in CASES if (options.case or "") in case.name]
    with (
        tempfile.TemporaryDirectory(prefix="jobs-bench-") as name,
        asyncio.Runner(loop_factory=__import__("uvloop").new_event_loop) as runner,
    ):
        folder = Path(name)
        peers_folder = options.peers_dir.resolve() if options.peers_dir else folder / "peers"
        peers = () if options.no_peers else PEERS
        figures = runner.run(
            compare(options.people, options.rounds, folder, peers_folder, cases=cases, peers=peers)
        )
    print(as_text(figures, cases))
    print(as_json(figures))


if __name__ == "__main__":
    main()
