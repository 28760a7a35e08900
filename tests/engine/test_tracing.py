"""Traces: run → step → message as a collector receives them, and that a collector can do no harm."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from service.cli import main
from service.errors import ConfigurationError
from service.messages.mail.transport import Envelope, SendResult, SmtpPhase
from service.otel import OtelExporter
from service.tracing import Tracing, tracing_of
from tests.given import GOALS, Scripted, World, accepted, goal, refused, user
from tests.process import process_of, until

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TOKEN = "t0ken-for-tests"


@dataclass
class Collector:
    """What an OpenTelemetry collector was sent."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for of_one in sent.resource_spans:
            self.resources.append(attributes(of_one.resource))
            self.spans += [span for scope in of_one.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")

    def named(self, start: str) -> list[Span]:
        return [span for span in self.spans if span.name.startswith(start)]

    def below(self, parent: Span) -> list[Span]:
        return [span for span in self.spans if span.parent_span_id == parent.span_id]


def attributes(of: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in of.attributes}


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """A collector on this machine that reads OTLP over HTTP."""
    made = Collector()
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/traces", made.take)
    async with TestServer(app, host="127.0.0.1") as server:
        made.url = str(server.make_url("")).rstrip("/")
        yield made


def tracing_to(url: str) -> Tracing:
    return tracing_of(url, "dashboard-jobs", "1.2.3", "one")


async def test_each_attempt_at_a_message_hangs_below_the_step_that_planned_it(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    names = ("zoe-of-ours", "xaver")
    await world.live(*map(user, names), *(goal(f"goal-of-{n}", n, "2026-03-11", title="Quit") for n in names))
    answers = iter([refused, refused])

    def answer(envelope: Envelope) -> SendResult:
        first = next(answers, None)
        return first(envelope, SmtpPhase.DOT, 471, "later, ann@example.org") if first else accepted(envelope)

    async with collector() as seen:
        planning, sending = tracing_to(seen.url), tracing_to(seen.url)  # two processes
        await (await world.runner(tracer=planning.tracer)).run_manual(GOALS)
        await planning.close()
        await world.delivery(Scripted(answer), tracer=sending.tracer).run_once()
        await world.pool.execute("UPDATE service.delivery_state SET not_before = service.now()")
        await world.delivery(Scripted(), tracer=sending.tracer).run_once()
        await sending.close()

    (run,) = seen.named("run ")
    refresh, step = seen.below(run)
    messages = seen.below(step)
    assert (run.name, refresh.name, step.name) == (f"run {GOALS}", "refresh", "step")
    assert (run.parent_span_id, {span.trace_id for span in seen.spans}) == (b"", {run.trace_id})
    assert (
        [span.name for span in messages]
        == ["message deadlines"] * 4
        == [s.name for s in seen.named("message")]
    )
    parts = [[(part.name, part.status.code) for part in seen.below(message)] for message in messages]
    failed, fine = Status.STATUS_CODE_ERROR, Status.STATUS_CODE_UNSET
    assert (
        sorted(parts)
        == [[("compose", fine), ("send", fine)]] * 2 + [[("compose", fine), ("send", failed)]] * 2
    )
    assert all(message.kind == Span.SPAN_KIND_CONSUMER for message in messages)
    for outer in (run, step, *messages):
        for inner in seen.below(outer):
            assert outer.start_time_unix_nano <= inner.start_time_unix_nano
    assert attributes(run)["jobs.run.state"] == "succeeded"
    assert attributes(step)["jobs.step.planned"] == 4
    fates = sorted(
        (attributes(m)["jobs.delivery.attempt"], attributes(m)["jobs.delivery.state"]) for m in messages
    )
    assert fates == [(1, "planned"), (1, "planned"), (2, "sent"), (2, "sent")]
    told = {(one["service.name"], one["service.instance.id"]) for one in seen.resources}
    assert told == {("dashboard-jobs", "one")}
    words = str(seen.spans)
    assert not any(secret in words for secret in (*names, "Zoe", "Xaver", "example.org", "Quit"))


async def test_what_fails_is_an_error_in_the_trace(world: World) -> None:
    await world.at("2026-03-10T08:00:00Z")
    await world.live(user("ann"), goal("g", due="2026-03-11"))

    async def broken() -> None:
        raise RuntimeError("of the sort that nobody expects: ann@example.org")

    world.refresh = broken
    async with collector() as seen:
        tracing = tracing_to(seen.url)
        await (await world.runner(tracer=tracing.tracer)).run_manual(GOALS)
        await tracing.close()

    (run,) = seen.named("run ")
    (refresh,) = seen.below(run)
    assert [attributes(span)["error.type"] for span in (run, refresh)] == ["failed", "RuntimeError"]
    assert {span.status.code for span in (run, refresh)} == {Status.STATUS_CODE_ERROR}
    assert "ann@example.org" not in str(seen.spans)


async def test_an_analytics_run_has_its_steps_too(world: World) -> None:
    async with collector() as seen:
        tracing = tracing_to(seen.url)
        await (await world.runner(tracer=tracing.tracer)).run_manual("analytics.dailyAnalytics")
        await tracing.close()

    (run,) = seen.named("run ")
    assert {span.name for span in seen.below(run)} == {"refresh", "step"}


async def _run_once(url: str) -> Any:
    headers = {"Authorization": f"Bearer {_TOKEN}"}
    asked = {"jobType": "reminder", "jobName": "goalDeadlines"}
    async with aiohttp.ClientSession(headers=headers) as http, asyncio.timeout(90):
        while True:
            try:
                if (await http.get(f"{url}/readyz")).status == 200:
                    break
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
        answer = await http.post(f"{url}/api/admin/jobs/run", json=asked)
        return await answer.json()


async def test_the_service_traces_where_an_endpoint_is_set(tmp_path: Path) -> None:
    async with collector() as seen:
        more = {_ENDPOINT: seen.url, "ADMIN_TOKEN": _TOKEN, "OTEL_SERVICE_NAME": "jobs-of-ours"}
        async with process_of(tmp_path / "data", "serve", **more) as (process, url):
            assert (await _run_once(url))["state"] == "succeeded"
            inbox = tmp_path / "data" / "inbox" / "new"
            await until(lambda: inbox.is_dir() and any(inbox.iterdir()))
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(90):
                assert await process.wait() == 0

    (run,) = seen.named(f"run {GOALS}")
    steps = [span for span in seen.below(run) if span.name == "step"]
    messages = [message for step in steps for message in seen.below(step)]
    assert messages
    assert {part.name for message in messages for part in seen.below(message)} == {"compose", "send"}
    assert {one["service.name"] for one in seen.resources} == {"jobs-of-ours"}


async def test_a_collector_that_keeps_silent_holds_up_nobody(tmp_path: Path) -> None:
    hanging: set[asyncio.StreamWriter] = set()

    async def swallow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hanging.add(writer)

    silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    more = {_ENDPOINT: f"http://127.0.0.1:{port}", "ADMIN_TOKEN": _TOKEN, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    more["OTEL_EXPORTER_OTLP_TIMEOUT"] = "3600"
    async with process_of(tmp_path / "data", "serve", **more) as (process, url):
        assert (await _run_once(url))["state"] == "succeeded"
        await until(lambda: bool(hanging))
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(90):
            code = await process.wait()
    assert code == 0
    for writer in hanging:
        writer.close()
    silent.close()


async def test_the_last_traces_are_waited_for_but_not_for_ever() -> None:
    released = threading.Event()

    class Hanging(OtelExporter):
        def shutdown(self) -> None:
            released.wait()

    exporter = Hanging("http://127.0.0.1:1", "s", "v", "i")
    async with asyncio.timeout(90):
        await Tracing(exporter, exporter).close()
    assert not released.is_set()
    released.set()


def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded() -> None:
    program = (
        "import asyncio, sys; from service import app, cli; from service.setup import parts;"
        "from service.settings import Settings;"
        "asyncio.run(parts.tracing_for(Settings.load({}), 'x').close());"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_endpoint_without_the_library_is_a_clear_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "service.otel", raising=False)
    with pytest.raises(ConfigurationError, match=r"install \[tracing\]"):
        tracing_to("http://127.0.0.1:4318")
    monkeypatch.setenv(_ENDPOINT, "http://127.0.0.1:4318")
    assert main(["check-config"]) == 2
    assert _ENDPOINT in capsys.readouterr().err
