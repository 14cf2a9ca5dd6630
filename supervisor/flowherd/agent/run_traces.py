"""Sends a trace of each run that has ended to a collector of OpenTelemetry, from a thread of its own.

Nothing waits for the collector: what does not fit into the queue of OpenTelemetry's SDK is dropped. The one module that
imports that SDK, which the extra flowherd[otel] installs.
"""

from __future__ import annotations

import logging
import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from loguru import logger
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from flowherd import __version__
from flowherd.agent.measures import ReportedRun
from flowherd.agent.run_spans import RunSpan, spans_of
from flowherd.recurring_error import RecurringError
from flowherd.shown_text import storable
from flowherd.trace_context import span_id, trace_id

#: How long the last traces may take when the agent stops, and a request otherwise, seconds.
_LAST_S, _REQUEST_S = 2.0, 10.0


class RunTraces:
    """The traces of one agent. `reported` may be called from any thread."""

    def __init__(self, endpoint: str, agent_name: str) -> None:
        instance = uuid.uuid4().hex
        resource = {
            "service.name": "flowherd",
            "service.version": __version__,
            "service.instance.id": instance,
            "host.name": socket.gethostname(),
            "cicd.worker.name": agent_name,
            "cicd.worker.id": instance,
        }
        self._ids = _Ids()
        # Resource.create adds OTEL_RESOURCE_ATTRIBUTES, the exporter takes headers from OTEL_EXPORTER_OTLP_HEADERS.
        self._provider = TracerProvider(
            resource=Resource.create(resource), id_generator=self._ids, shutdown_on_exit=False
        )
        logging.getLogger("opentelemetry").addHandler(_Debug())
        logging.getLogger("opentelemetry").propagate = False
        exporter = _Logged(OTLPSpanExporter(endpoint=endpoint, timeout=_REQUEST_S), endpoint)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("flowherd", __version__)

    def reported(self, run: ReportedRun) -> None:
        """Make the trace of a run whose end the backend has; it is sent within seconds."""
        try:
            self._make(run)
        except Exception as error:  # a trace must not keep the next run from being reported
            logger.debug("No trace of run {}: {!r}", run.run.id, error)

    def close(self) -> None:
        """Send what is left, for a moment at most."""
        thread = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        thread.start()
        thread.join(_LAST_S)

    def _make(self, reported: ReportedRun) -> None:
        run, (whole, *phases) = reported.run, spans_of(reported)
        with self._ids.of_run(run.id, run.attempt) as ids:
            ids.key = whole.key
            root = self._tracer.start_span(
                whole.name, Context(), SpanKind.SERVER, _clean(whole), start_time=_ns(whole.begin)
            )
            below = set_span_in_context(root, Context())
            for phase in phases:
                ids.key = phase.key
                span = self._tracer.start_span(
                    phase.name, below, SpanKind.INTERNAL, _clean(phase), start_time=_ns(phase.begin)
                )
                for name, at in phase.events:
                    span.add_event(name, timestamp=_ns(at))
                _mark(span, phase)
                span.end(_ns(phase.end))
            _mark(root, whole)
            root.end(_ns(whole.end))


def _mark(span: Span, of_run: RunSpan) -> None:
    if of_run.error is not None:
        span.set_status(Status(StatusCode.ERROR, storable(of_run.error)))


def _clean(of_run: RunSpan) -> dict[str, str | float | int]:
    return {name: storable(value) if isinstance(value, str) else value for name, value in of_run.attributes.items()}


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


class _Ids(IdGenerator):
    """Gives spans the ids that follow from their run; one run at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run_id, self._attempt = "", ""
        #: Which span of the run comes next.
        self.key = ""

    @contextmanager
    def of_run(self, run_id: str, attempt: str) -> Iterator[_Ids]:
        with self._lock:
            self._run_id, self._attempt = run_id, attempt
            yield self

    def generate_trace_id(self) -> int:
        return trace_id(self._run_id)

    def generate_span_id(self) -> int:
        return span_id(self._run_id, self._attempt, self.key)


class _Logged(SpanExporter):
    """An exporter whose failures are logged once when they start and when they end."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._sending = RecurringError(f"send traces to {endpoint}", logger)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._sending.recovered()
        else:
            self._sending.failed(ConnectionError(f"the collector has not taken {len(spans)} spans, which are dropped"))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class _Debug(logging.Handler):
    """Sends what the SDK logs to the agent's log, for debugging."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.debug("OpenTelemetry: {}", record.getMessage())
