"""Traces of runs, as a collector of OpenTelemetry receives them."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from loguru import logger
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.errors import ConfigurationError
from flowherd.trace_context import span_id, trace_id
from tests.support.agents import going, wait_for_end
from tests.support.http_server import Answer, Request, http_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow
SERVER, INTERNAL, ERROR = 2, 1, 2
PRINT = {"type": "Command", "argv": ["sh", "-c", "echo $TRACEPARENT"]}
FAIL = {"type": "Command", "argv": ["sh", "-c", "exit 3"]}


class Collector:
    """What was received of all agents."""

    def __init__(self, address: str) -> None:
        self.endpoint = f"{address}/v1/traces"
        self._lock = threading.Lock()
        self._spans: list[Any] = []
        self.resources: list[dict[str, Any]] = []
        self.refuses = False

    def take(self, request: Request) -> Answer:
        if self.refuses:
            return Answer(status=400)
        with self._lock:
            for of_agent in ExportTraceServiceRequest.FromString(request.body).resource_spans:
                self.resources.append(attributes(of_agent.resource))
                self._spans += [span for scope in of_agent.scope_spans for span in scope.spans]
        return Answer(headers={"Content-Type": "application/x-protobuf"}, body=b"")

    def of_run(self, run_id: str) -> dict[str, Any]:
        """The spans of a run by their names, once the one of the whole run, which ends last, is there."""

        def found() -> dict[str, Any]:
            with self._lock:
                spans = {one.name: one for one in self._spans if one.trace_id.hex() == run_id.replace("-", "")}
            return spans if any(name.startswith("RUN ") for name in spans) else {}

        return wait_until(found, what=lambda: f"the trace of {run_id}")


def attributes(of: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in of.attributes}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made: list[Collector] = []
    with http_server(lambda request: made[0].take(request)) as address:
        made.append(Collector(address))
        yield made[0]


def agent_of(collector: Collector, backend: MemoryBackend) -> LocalAgent:
    settings = load_settings({"traces.endpoint": collector.endpoint, "runs.keep": 60.0})
    return LocalAgent(name="tracing", hostname_label=False, backend=backend, settings=settings)


def test_a_run_is_one_trace_whose_ids_follow_from_it(collector: Collector) -> None:
    backend = MemoryBackend()
    run_id, bad_id = backend.add_run(PRINT, name="etl"), backend.add_run(FAIL, name="etl")
    agent = agent_of(collector, backend)
    with going(agent):
        assert wait_for_end(backend, run_id) == "Success"
        assert wait_for_end(backend, bad_id) == "Failed"
    spans = collector.of_run(run_id)
    assert spans.keys() == {"RUN etl", "waiting", "claim", "fork", "run", "report"}
    whole = spans.pop("RUN etl")
    found = attributes(whole)
    attempt = found["flowherd.run.attempt"]
    assert int.from_bytes(whole.span_id, "big") == span_id(run_id, attempt, "")
    assert int.from_bytes(whole.trace_id, "big") == trace_id(run_id)
    assert (whole.kind, whole.parent_span_id) == (SERVER, b"")
    assert {span.parent_span_id for span in spans.values()} == {whole.span_id}
    assert {span.kind for span in spans.values()} == {INTERNAL}
    traceparent = f"00-{whole.trace_id.hex()}-{spans['run'].span_id.hex()}-01"
    assert traceparent in backend.log(run_id), "the run's processes know the span that theirs belong to"
    wanted = {"name": "etl", "run.id": run_id, "action.name": "RUN", "result": "success"}
    assert {name: found[f"cicd.pipeline.{name}"] for name in wanted} == wanted
    assert [event.name for event in spans["run"].events] == ["first line"]
    in_order = [spans[name] for name in ("waiting", "claim", "fork", "run", "report")]
    for span, later in pairwise(in_order):
        assert span.start_time_unix_nano <= span.end_time_unix_nano <= later.end_time_unix_nano
    assert collector.resources[-1]["cicd.worker.name"] == "tracing"
    failed = collector.of_run(bad_id)
    assert (failed["RUN etl"].status.code, failed["run"].status.code, failed["fork"].status.code) == (ERROR, ERROR, 0)
    assert failed["RUN etl"].status.message == "The flow process exited with code 3."
    assert attributes(failed["RUN etl"])["error.type"] == "exited"
    assert attributes(failed["run"])["cicd.pipeline.task.run.result"] == "failure"


def test_a_trace_is_the_same_whichever_agent_reports_the_run(collector: Collector, tmp_path: Path) -> None:
    backend, end = MemoryBackend(), tmp_path / "end"
    wait = f"echo $TRACEPARENT; while [ ! -e {end} ]; do sleep 0.05; done"
    run_id = backend.add_run({"type": "Command", "argv": ["sh", "-c", wait]})
    with going(agent_of(collector, backend)):
        wait_until(lambda: any(line.startswith("00-") for line in backend.log(run_id)))
    with going(agent_of(collector, backend)):
        end.touch()
        assert wait_for_end(backend, run_id) == "Success"
    spans = collector.of_run(run_id)
    assert spans.keys() == {"RUN run", "run", "report"}, "what comes before was seen by the first agent"
    assert f"00-{spans['run'].trace_id.hex()}-{spans['run'].span_id.hex()}-01" in backend.log(run_id)


def test_a_trace_that_the_flow_itself_was_given_is_kept(collector: Collector) -> None:
    backend, given = MemoryBackend(), f"00-{'a' * 32}-{'b' * 16}-01"
    run_id = backend.add_run(PRINT, run_config={"type": "LocalRun", "env": {"TRACEPARENT": given}})
    with going(agent_of(collector, backend)):
        wait_for_end(backend, run_id)
    assert given in backend.log(run_id)


def test_a_collector_that_refuses_holds_up_nothing(collector: Collector) -> None:
    backend, refusal = MemoryBackend(), f"Cannot send traces to {collector.endpoint}"
    said: list[str] = []
    collector.refuses = True
    try:
        with going(agent_of(collector, backend)):
            # Of this test's own: another one may have taken away the log's sinks, which all agents in a process share.
            sink = logger.add(said.append, format="{message}")
            for _ in range(2):
                assert wait_for_end(backend, backend.add_run(PRINT)) == "Success"
        # The last request may go on beyond the agent's end.
        wait_until(lambda: any(refusal in line for line in said), what=lambda: "".join(said))
        logger.remove(sink)
    finally:
        collector.refuses = False


def test_an_agent_without_an_endpoint_imports_no_library_for_traces(tmp_path: Path) -> None:
    code = "import sys, flowherd; flowherd.LocalAgent(); print([m for m in sys.modules if 'opentelemetry' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "[]\n"


def test_an_endpoint_without_the_extra_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    monkeypatch.delitem(sys.modules, "flowherd.agent.run_traces", raising=False)
    settings = load_settings({"traces.endpoint": "http://127.0.0.1:4318/v1/traces"})
    with pytest.raises(ConfigurationError, match=r"pip install 'flowherd\[otel\]'"):
        LocalAgent(backend=MemoryBackend(), settings=settings)
