"""OpenTelemetry spans, sent over OTLP/HTTP in a background thread.

Imported by ``service.tracing`` only, if an endpoint is set. The library itself reads the other OTEL_*
variables (headers, sampler, batches, timeouts). While a collector is away, spans are dropped once their
queue is full, with a warning in the log; the service is not affected.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_KINDS = {"internal": SpanKind.INTERNAL, "consumer": SpanKind.CONSUMER, "client": SpanKind.CLIENT}
_CONTEXT = TraceContextTextMapPropagator()
_TRACES = "/v1/traces"

Attributes = Mapping[str, str | int | float | bool]


class OtelSpan:
    """See ``tracing.Span``."""

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def traceparent(self) -> str | None:
        """W3C trace context."""
        carrier: dict[str, str] = {}
        _CONTEXT.inject(carrier, trace.set_span_in_context(self._span))
        return carrier.get("traceparent")

    def child(self, name: str, attributes: Attributes | None = None, kind: str = "internal") -> "OtelSpan":
        """Start a child span."""
        context = trace.set_span_in_context(self._span)
        return OtelSpan(self._tracer, self._tracer.start_span(name, context, _KINDS[kind], attributes))

    def note(self, attributes: Attributes) -> None:
        """Set attributes."""
        self._span.set_attributes(attributes)

    def end(self, error: str | None = None) -> None:
        """End the span."""
        if not self._span.is_recording():
            return  # ended before, or not sampled
        if error:
            self._span.set_attribute("error.type", error)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_: TracebackType | None
    ) -> None:
        self.end(kind.__name__ if kind else None)


class OtelExporter:
    """See ``tracing.Exporter``. ``instance``: the process's unique name."""

    def __init__(self, endpoint: str, service: str, version: str, instance: str) -> None:
        named = {"service.name": service, "service.version": version, "service.instance.id": instance}
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint.removesuffix("/").removesuffix(_TRACES) + _TRACES)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("dashboard-jobs", version)

    def start(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        parent: str | None = None,
        kind: str = "internal",
    ) -> OtelSpan:
        """Start a span below ``parent``, or a new trace."""
        context = _CONTEXT.extract({"traceparent": parent} if parent else {})
        return OtelSpan(self._tracer, self._tracer.start_span(name, context, _KINDS[kind], attributes))

    def shutdown(self) -> None:
        """Flush remaining spans; blocks while the collector does."""
        self._provider.shutdown()
