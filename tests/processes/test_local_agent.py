"""LocalAgent with the in-memory backend and real fork servers, runners and flows."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.errors import BackendRefused
from flowherd.states import FINISHED, RunState
from flowherd.values import StateReport
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

FLOWS = """
import logging, os, subprocess, sys, time

def ok(n=1, marker=None):
    print("hello", n)
    logging.getLogger("work").warning("half way")
    print("bye", file=sys.stderr)
    if marker:
        with open(marker, "a") as file:
            file.write("x")

def bad():
    raise ValueError("bad input")

def three():
    sys.exit(3)

def quits(host=None):
    sys.exit("no such host: db1")

def segv():
    import ctypes
    ctypes.string_at(0)

def sleep(ready=None):
    if ready:
        open(ready, "w").close()
    time.sleep(120)

def family(ready):
    subprocess.Popen(["sleep", "120"], start_new_session=True)
    subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 120"])
    sleep(ready)

def hog():
    kept = []
    while True:
        kept.append(bytearray(20_000_000))
        time.sleep(0.01)

def crowd(ready=None):
    for _ in range(8):
        subprocess.Popen(["sleep", "120"])
    time.sleep(120)
"""


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    path = tmp_path / "flows.py"
    path.write_text(FLOWS)
    return path


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def make_agent(backend: MemoryBackend) -> Callable[..., LocalAgent]:
    def make(**arguments: Any) -> LocalAgent:
        return LocalAgent(backend=backend, hostname_label=False, **arguments)

    return make


@pytest.fixture
def agent(make_agent: Callable[..., LocalAgent]) -> Iterator[LocalAgent]:
    with going(make_agent()) as agent:
        yield agent


@pytest.fixture
def run(backend: MemoryBackend, flows: Path) -> Callable[..., str]:
    def add(function: str, parameters: dict[str, Any] | None = None, **run_config: Any) -> str:
        storage = {"type": "Python", "ref": f"{flows}:{function}"}
        return backend.add_run(storage, parameters=parameters, run_config=run_config or None, name=function)

    return add


def test_the_words_with_which_a_flow_exits_and_a_parameter_that_it_does_not_take_are_told(
    agent: LocalAgent, backend: MemoryBackend, flows: Path
) -> None:
    storage = {"type": "Python", "ref": f"{flows}:quits", "parameters": ["host"]}
    quitting, wrong = backend.add_run(storage), backend.add_run(storage, parameters={"hots": "db2"})
    assert wait_for_end(backend, quitting) is RunState.FAILED
    assert backend.message(quitting) == "SystemExit: no such host: db1"
    assert wait_for_end(backend, wrong) is RunState.FAILED
    warnings = [line.message for line in backend.lines if line.flow_run_id == wrong and line.level == 30]
    assert "The flow has no parameter 'hots'; did you mean 'host'?" in warnings


def test_a_python_flow_succeeds_and_its_lines_are_in_order(
    agent: LocalAgent, backend: MemoryBackend, run: Callable[..., str]
) -> None:
    run_id = run("ok", {"n": 7})
    assert wait_for_end(backend, run_id) is RunState.SUCCESS
    own = [line for line in backend.lines if line.flow_run_id == run_id and line.stream != "flowherd"]
    assert [(line.stream, line.message) for line in own] == [
        ("stdout", "hello 7"),
        ("log", "half way"),
        ("stderr", "bye"),
    ]
    assert (own[1].logger, own[1].level) == ("work", 30)
    assert [report.state for report in backend.history] == [RunState.RUNNING, RunState.SUCCESS]


def test_secrets_of_the_settings_reach_the_run_and_no_log(
    make_agent: Callable[..., LocalAgent], backend: MemoryBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("of-the-file\n")
    (tmp_path / "env").write_text("GREETING=hello\n")
    monkeypatch.setenv("INHERITED_TOKEN", "of-the-agent")
    monkeypatch.setenv("FLOWHERD__CLOUD__AGENT__AUTH_TOKEN", "credential-of-the-agent")
    monkeypatch.setenv("FLOWHERD__RUNS__SECRETS", f"A=file:{tmp_path}/password,B=env:INHERITED_TOKEN")
    monkeypatch.setenv("FLOWHERD__RUNS__ENV_FILES", str(tmp_path / "env"))
    monkeypatch.setenv("FLOWHERD__RUNS__MASK", "STAGE")
    script = "echo $GREETING $A $B $INHERITED_TOKEN $STAGE credential-of-the-agent {password} ${#A}; "
    script += "env | grep -c credential-of"
    storage = {"type": "Command", "argv": ["sh", "-c", script]}
    with going(make_agent()):
        run_id = backend.add_run(
            storage, parameters={"password": "of-the-parameter"}, run_config={"env": {"STAGE": "prod"}}
        )
        missing = backend.add_run(storage, run_config={"secrets": {"A": f"file:{tmp_path}/missing"}})
        wait_for_end(backend, run_id)
        assert wait_for_end(backend, missing) is RunState.FAILED
    of = lambda id_, stream: [x.message for x in backend.lines if (x.flow_run_id, x.stream) == (id_, stream)]  # noqa: E731
    assert of(run_id, "stdout") == ["hello *** *** *** *** *** *** 11", "0"]
    [notice] = [text for text in of(run_id, "flowherd") if "***" in text]
    assert "A, B, " in notice and "INHERITED_TOKEN, STAGE, password, the agent's own credentials" in notice
    assert "secret A cannot be read from the file" in backend.history[-1].message + str(of(missing, "flowherd"))
    assert not any("of-the-" in line.message for line in backend.lines)


def test_text_without_a_newline_is_a_line_when_the_run_ends(agent: LocalAgent, backend: MemoryBackend) -> None:
    run_id = backend.add_run({"type": "Command", "argv": ["sh", "-c", "printf '\\r10%%'; sleep 0.5; printf '\\r20%%'"]})
    wait_for_end(backend, run_id)
    assert [line.message for line in backend.lines if line.stream == "stdout"] == ["20%"]


def test_a_command_flow_gets_its_parameters(agent: LocalAgent, backend: MemoryBackend) -> None:
    argv = ["sh", "-c", 'echo "{x} $FLOWHERD_PARAM_x $FLOWHERD_FLOW_RUN_ID"; cat /proc/self/oom_score_adj']
    run_id = backend.add_run({"type": "Command", "argv": argv}, parameters={"x": 5})
    assert wait_for_end(backend, run_id) is RunState.SUCCESS
    assert f"5 5 {run_id}" in backend.log(run_id)
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert str(own + 100) in backend.log(run_id), "the kernel ends a run before the agent"


def test_every_kind_of_end_has_its_own_accurate_message(
    agent: LocalAgent, backend: MemoryBackend, run: Callable[..., str], tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    runs = {name: run(name) for name in ("bad", "three", "segv")}
    runs["hog"] = run("hog", limits={"memory_bytes": 300_000_000})
    runs["crowd"] = run("crowd", limits={"processes": 5})
    runs["slow"] = run("sleep", limits={"run_time_s": 0.5}, grace_s=1)
    runs["killed"] = run("sleep", {"ready": str(ready)})
    wait_until(ready.exists)
    flow_pid = wait_until(lambda: next((r.pid for r in backend.history if r.flow_run_id == runs["killed"]), None))
    os.kill(flow_pid, signal.SIGKILL)
    assert {wait_for_end(backend, run_id) for run_id in runs.values()} == {RunState.FAILED}
    messages = {name: backend.message(run_id) for name, run_id in runs.items()}
    assert messages["bad"] == "ValueError: bad input"
    assert "code 3" in messages["three"]
    assert "SIGSEGV" in messages["segv"]
    assert "Memory limit exceeded" in messages["hog"]
    assert "Process limit exceeded" in messages["crowd"]
    assert "0.5" in messages["slow"]
    assert "SIGKILL" in messages["killed"]
    assert any("Traceback" in line for line in backend.log(runs["bad"]))


def test_cancelling_ends_the_whole_tree_including_processes_that_ignore_sigterm(
    agent: LocalAgent, backend: MemoryBackend, run: Callable[..., str], tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    run_id = run("family", {"ready": str(ready)}, grace_s=0.3)
    wait_until(lambda: backend.state(run_id) is RunState.RUNNING and ready.exists())
    assert backend.cancel(run_id) is RunState.CANCELLING
    assert wait_for_end(backend, run_id) is RunState.CANCELLED


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.SUCCESS])
def test_a_run_that_a_person_sets_to_a_final_state_loses_its_processes(
    agent: LocalAgent, backend: MemoryBackend, run: Callable[..., str], tmp_path: Path, state: RunState
) -> None:
    ready = tmp_path / "ready"
    run_id = run("family", {"ready": str(ready)}, grace_s=0.3)
    wait_until(lambda: backend.state(run_id) is RunState.RUNNING and ready.exists())
    now = datetime.now(timezone.utc)
    backend.report(StateReport(flow_run_id=run_id, state=state, message="by hand", at=now, claim="a person"))
    agent._own_host._courier.look_for_cancellations()
    wait_until(lambda: run_id not in agent._own_host._registry)
    assert (backend.state(run_id), backend.message(run_id)) == (state, "by hand")


def test_unsupported_storage_fails_the_run_with_a_clear_message(agent: LocalAgent, backend: MemoryBackend) -> None:
    run_id = backend.add_run({"type": "Docker"})
    assert wait_for_end(backend, run_id) is RunState.FAILED
    assert "Unsupported Storage" in backend.message(run_id)


def test_deploy_flow_alone_refuses_unsupported_storage_with_a_value_error() -> None:
    backend = MemoryBackend()
    backend.add_run({"type": "Docker"})
    with pytest.raises(ValueError, match="Unsupported Storage"):
        LocalAgent().deploy_flow(backend.ready_runs([], ())[0])


def test_a_missing_program_directory_or_interpreter_is_named(agent: LocalAgent, backend: MemoryBackend) -> None:
    program = backend.add_run({"type": "Command", "argv": ["no-such-program-here"]})
    directory = backend.add_run({"type": "Command", "argv": ["true"]}, run_config={"working_dir": "/no/such/place"})
    interpreter = backend.add_run({"type": "Command", "argv": ["true"]}, run_config={"interpreter": "/no/python"})
    for run_id, word in [(program, "no-such-program-here"), (directory, "/no/such/place"), (interpreter, "/no/python")]:
        assert wait_for_end(backend, run_id) is RunState.FAILED
        assert word in backend.message(run_id)


def test_no_more_runs_are_active_at_once_than_the_limit_allows(
    make_agent: Callable[..., LocalAgent], backend: MemoryBackend, run: Callable[..., str]
) -> None:
    with going(make_agent(limit=2)) as agent:
        runs = [run("ok") for _ in range(6)]
        most = 0

        def all_done() -> bool:
            nonlocal most
            most = max(most, len(agent._own_host._registry.living()))
            return all(backend.state(run_id) in FINISHED for run_id in runs)

        wait_until(all_done)
    assert 1 <= most <= 2


def test_a_delivered_run_leaves_nothing_on_disk(
    agent: LocalAgent, backend: MemoryBackend, run: Callable[..., str], clean_environment: Path
) -> None:
    run_id = run("ok")
    wait_for_end(backend, run_id)
    wait_until(lambda: not list((clean_environment / "agents" / "agent" / "runs").iterdir()))


def test_no_cloud_logs_sends_no_line_and_keeps_the_journal(
    make_agent: Callable[..., LocalAgent], backend: MemoryBackend, run: Callable[..., str], clean_environment: Path
) -> None:
    with going(make_agent(no_cloud_logs=True)):
        run_id = run("ok")
        assert wait_for_end(backend, run_id) is RunState.SUCCESS
    assert backend.lines == []
    assert b"hello 1" in (clean_environment / "agents" / "agent" / "runs" / run_id / "journal").read_bytes()


def test_a_run_whose_log_the_backend_refuses_still_ends_and_costs_few_requests(
    backend: MemoryBackend, make_agent: Callable[..., LocalAgent], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = []

    def refuse(lines: Any) -> None:
        requests.append(len(lines))
        raise BackendRefused("this run was deleted")

    monkeypatch.setattr(backend, "write_logs", refuse)
    with going(make_agent()):
        run_id = backend.add_run({"type": "Command", "argv": ["seq", "5000"]})
        assert wait_for_end(backend, run_id) is RunState.SUCCESS
    assert len(requests) < 60


def test_a_run_can_be_cancelled_even_if_the_backend_refuses_heartbeats(
    backend: MemoryBackend, make_agent: Callable[..., LocalAgent], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run_ids: Any) -> None:
        raise BackendRefused("no heartbeats here")

    monkeypatch.setattr(backend, "heartbeat", refuse)
    with going(make_agent()):
        run_id = backend.add_run({"type": "Command", "argv": ["sleep", "120"]})
        wait_until(lambda: backend.state(run_id) is RunState.RUNNING)
        backend.cancel(run_id)
        assert wait_for_end(backend, run_id) is RunState.CANCELLED


def test_show_flow_logs_shows_the_output_on_the_terminal(
    make_agent: Callable[..., LocalAgent],
    backend: MemoryBackend,
    run: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with going(make_agent(show_flow_logs=True)):
        wait_for_end(backend, run("ok", {"n": 42}))
    assert "ok | hello 42" in capsys.readouterr().out


def test_a_run_that_continues_without_its_agent_is_adopted_and_its_log_is_complete(
    make_agent: Callable[..., LocalAgent], backend: MemoryBackend, tmp_path: Path
) -> None:
    go, ready = tmp_path / "go", tmp_path / "ready"
    script = f"echo one; touch {ready}; while [ ! -e {go} ]; do sleep 0.02; done; echo two"
    with going(make_agent()):
        run_id = backend.add_run({"type": "Command", "argv": ["sh", "-c", script]})
        wait_until(ready.exists)
    assert backend.state(run_id) is RunState.RUNNING
    go.touch()
    with going(make_agent()):
        assert wait_for_end(backend, run_id) is RunState.SUCCESS
    assert [line.message for line in backend.lines if line.stream == "stdout"] == ["one", "two"]
    assert [report.state for report in backend.history] == [RunState.RUNNING, RunState.SUCCESS]


def test_a_run_whose_runner_is_killed_is_lost_and_its_processes_are_killed(
    agent: LocalAgent, backend: MemoryBackend, run: Callable[..., str], tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    run_id = run("family", {"ready": str(ready)})
    wait_until(ready.exists)
    runner = wait_until(
        lambda: next((r.runner for r in agent._own_host._registry if r.id == run_id and r.runner), None)
    )
    os.kill(runner.pid, signal.SIGKILL)
    assert wait_for_end(backend, run_id) is RunState.FAILED
    assert "runner" in backend.message(run_id)


def test_a_killed_fork_server_costs_no_run_and_is_replaced(
    agent: LocalAgent, backend: MemoryBackend, run: Callable[..., str], tmp_path: Path
) -> None:
    go, ready = tmp_path / "go", tmp_path / "ready"
    script = f"touch {ready}; while [ ! -e {go} ]; do sleep 0.02; done"
    first = backend.add_run({"type": "Command", "argv": ["sh", "-c", script]})
    wait_until(ready.exists)
    (server,) = agent._own_host._surroundings.fork_servers._servers.values()
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not server.alive)
    assert wait_for_end(backend, run("ok")) is RunState.SUCCESS
    go.touch()
    assert wait_for_end(backend, first) is RunState.SUCCESS


def test_a_second_agent_on_the_same_state_directory_is_refused(
    agent: LocalAgent, make_agent: Callable[..., LocalAgent]
) -> None:
    wait_until(lambda: agent._own_host._opened)
    with pytest.raises(Exception, match=f"another agent \\(pid {os.getpid()}\\)"):
        make_agent().start()


def test_a_flow_can_run_in_another_interpreter(agent: LocalAgent, backend: MemoryBackend) -> None:
    storage = {"type": "Command", "argv": ["true"]}
    run_id = backend.add_run(storage, run_config={"interpreter": os.path.realpath(sys.executable)})
    assert wait_for_end(backend, run_id) is RunState.SUCCESS


def test_the_agents_tokens_do_not_reach_a_flow(
    make_agent: Callable[..., LocalAgent], backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT__CLOUD__AGENT__AUTH_TOKEN", "very-secret")
    with going(make_agent()):
        run_id = backend.add_run({"type": "Command", "argv": ["env"]})
        assert wait_for_end(backend, run_id) is RunState.SUCCESS
    assert not any("very-secret" in line for line in backend.log(run_id))
