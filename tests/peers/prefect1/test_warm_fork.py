"""Runs of the kind "prefect" in the warm fork, by the real Prefect 0.x and 1.x, at a real embedded server."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from flowherd_runner.contract.variables import PREFECT_PRELOAD
from tests.peers.environments import PREFECT_0_AND_1, required_installation
from tests.peers.prefect1.warm_fork import Prefect1EngineRun, WarmFork, running_warm_fork
from tests.support.runner import THREAD_AT_START, ForkServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module", params=PREFECT_0_AND_1)
def fork(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmFork]:
    with running_warm_fork(required_installation(request.param), tmp_path_factory.mktemp("fork")) as fork:
        yield fork


def ended(run: Prefect1EngineRun) -> dict[str, Any]:
    return run.process.wait(60)


def test_the_fork_server_has_imported_prefect_and_has_one_thread(fork: WarmFork) -> None:
    assert fork.fork_server.ready["preloaded"] == list(PREFECT_PRELOAD)
    assert fork.fork_server.ready["failed"] == {}
    assert fork.fork_server.ready["threads"] == 1


def test_the_engine_reports_the_states_of_a_flow_that_succeeds(fork: WarmFork) -> None:
    run = fork.start("speaking")
    record = ended(run)
    assert (record["reason"], record["exit_code"]) == ("exited", 0)
    assert run.states == ["Scheduled", "Submitted", "Running", "Success"]


def test_the_engine_reaches_the_embedded_server_past_a_proxy(fork: WarmFork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "example.org")
    run = fork.start("speaking", env={"HTTP_PROXY": "http://127.0.0.1:9"})
    assert ended(run)["reason"] == "exited"
    assert run.states[-1] == "Success"


def test_why_the_engine_could_not_report_the_end_is_the_end(fork: WarmFork) -> None:
    run = fork.start("refusing")
    record = ended(run)
    assert (record["reason"], record["exit_code"]) == ("exception", 0)
    assert record["evidence"].startswith("ConnectionError: no room at the API (Prefect's engine could not set")
    assert run.states[-1] == "Running", "the agent reports the end that the engine could not report"


def test_every_record_of_the_flow_is_journaled_once_with_its_task_run(fork: WarmFork) -> None:
    run = fork.start(
        "speaking",
        parameters={"word": "\u00e9"},
        env={"PREFECT__LOGGING__LEVEL": "INFO", "PREFECT__LOGGING__EXTRA_LOGGERS": "['mine', 'mine.inner']"},
    )
    ended(run)
    runner = "prefect.CloudTaskRunner"
    records = [record for record in run.records() if record[3] in ("speak", "echo")]
    texts = [(logger, level, message.splitlines()[0], task) for logger, level, message, task in records]
    stacked = [message for _, _, message, _ in records if message.startswith("with a stack")]
    finished = "Finished" if fork.installation.is_prefect_1 else "finished"
    assert [text for text in texts if "in task run" not in text[2]] == [
        (runner, 20, "Task 'speak': Starting task run...", "speak"),
        ("prefect.speak", 20, "says \u00e9", "speak"),
        ("prefect.speak", 40, "failed", "speak"),
        ("mine.inner", 30, "of mine", "speak"),
        ("prefect.speak", 30, "with a stack", "speak"),
        (runner, 20, f"Task 'speak': {finished} task run for task with final state: 'Success'", "speak"),
        (runner, 20, "Task 'echo': Starting task run...", "echo"),
        (runner, 20, "echoes \u00e9", "echo"),
        (runner, 20, f"Task 'echo': {finished} task run for task with final state: 'Success'", "echo"),
    ]
    exception = next(message for _, _, message, _ in records if message.startswith("failed"))
    assert exception.startswith("failed\nTraceback (most recent call last):\n")
    assert exception.endswith("KeyError: 'missing'")
    # Prefect 0.x does not send the stack of a record.
    assert ("Stack (most recent call last):" in stacked[0]) is fork.installation.is_prefect_1
    # What the engine logs about the flow run itself has no task run.
    assert {task for logger, _, _, task in run.records() if logger == "prefect.CloudFlowRunner"} == {None}


def test_what_tasks_print_is_in_the_journal_among_their_records(fork: WarmFork) -> None:
    run = fork.start("speaking", env={"PREFECT__LOGGING__LEVEL": "INFO"})
    ended(run)
    lines = run.process.lines()
    assert lines[lines.index("says hello") + 1] == "prints hello"
    # Its logger is not Prefect's, so it is printed, as in a program without Prefect.
    assert run.process.lines("stderr") == ["of mine", "of nobody"]
    assert run.process.lines("stdout") == ["prints hello"]


def test_debug_records_are_journaled_when_that_is_the_level(fork: WarmFork) -> None:
    run = fork.start("speaking", env={"PREFECT__LOGGING__LEVEL": "DEBUG"})
    ended(run)
    assert "not at this level" in run.messages()


def look(run: Prefect1EngineRun) -> dict[str, Any]:
    """Return what the flow "looking" has seen."""
    line = next(line for line in run.process.lines("stdout") if line.startswith("SEEN "))
    seen: dict[str, Any] = json.loads(line[5:])
    return seen


def test_secrets_of_the_context_and_of_the_configuration_are_masked(fork: WarmFork, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".prefect").mkdir(parents=True)
    (home / ".prefect" / "config.toml").write_text('[context.secrets]\nFILED = "of-the-file"\n')
    context = {"secrets": {"KEPT": "of-the-context", "FILED": "of-the-file"}}
    run = fork.start("keeping", env={"HOME": str(home)}, context=context)
    ended(run)
    assert run.states[-1] == "Success"
    assert "kept *** and ***" in run.process.lines("stdout")
    (record,) = [content for _, content in run.process.log_payloads() if content["message"] == "with fields"]
    if fork.installation.is_prefect_1:  # sends no further fields
        assert "info" not in record
    else:
        fields = {name: record["info"][name] for name in ("order", "of", "other", "funcName", "task_slug")}
        slug = fields.pop("task_slug")
        assert fields == {"order": 7, "of": {"value": ["***"]}, "other": {"***": "NaN"}, "funcName": "keep"} and slug
    assert {"FILED", "KEPT"} <= {
        name for text in run.process.lines("flowherd") for name in text.split(": ")[1].split(", ")
    }


def test_runs_one_after_the_other_and_at_once_see_only_their_own_settings(fork: WarmFork, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".prefect").mkdir(parents=True)
    (home / ".prefect" / "config.toml").write_text("[fromfile]\nanswer = 42\n")
    first: dict[str, Any] = {
        "token": "tok-1",
        "parameters": {"names": ["ONLY_FIRST", "ONLY_SECOND"]},
        "context": {"colour": "red"},
        "env": {
            "HOME": str(home),
            "ONLY_FIRST": "1",
            "PREFECT__CONTEXT__LEAK": "1",
            "PREFECT__CONTEXT__SECRETS__MINE": "sec-1",
            "PREFECT__LOGGING__LEVEL": "DEBUG",
            "PREFECT__LOGGING__EXTRA_LOGGERS": "['mine']",
        },
    }
    second: dict[str, Any] = {
        "token": "tok-2",
        "parameters": {"names": ["ONLY_SECOND"]},
        "env": {
            "ONLY_SECOND": "2",
            "PREFECT__HOME_DIR": str(tmp_path),
            "PREFECT__LOGGING__LEVEL": "WARNING",
            "PREFECT__LOGGING__EXTRA_LOGGERS": "['theirs']",
        },
    }
    going = [fork.prepare("looking", **given) for given in (first, second, first)]
    for run in going[:2]:
        fork.fork_server.start(run.process)
    for run in going[:2]:
        ended(run)
    fork.fork_server.start(going[2].process)
    ended(going[2])
    for run in (going[0], going[2]):
        assert look(run) == {
            "environ": {"ONLY_FIRST": "1", "ONLY_SECOND": None},
            "token": "tok-1",
            "copied": "tok-1",
            "loaded": "tok-1",
            "context": {"colour": "red", "leak": 1, "flow_run_id": run.id},
            "secrets": {"MINE": "sec-1"},
            "parameters": {"names": ["ONLY_FIRST", "ONLY_SECOND"]},
            "level": 10,
            "file": {"answer": 42},
            "home": f"{home}/.prefect",
            "loggers": ["mine"],
        }
    assert look(going[1]) == {
        "environ": {"ONLY_SECOND": "2"},
        "token": "tok-2",
        "copied": "tok-2",
        "loaded": "tok-2",
        "context": {"colour": None, "leak": None, "flow_run_id": going[1].id},
        "secrets": {},
        "parameters": {"names": ["ONLY_SECOND"]},
        "level": 30,
        "file": None,
        "home": str(tmp_path),
        "loggers": ["theirs"],
    }
    environ = Path(f"/proc/{fork.fork_server.ready['pid']}/environ").read_bytes()
    assert not any(word in environ for word in (b"tok-", b"sec-", b"ONLY_", going[0].id.encode()))


WORKING = ["working", "working in threads", "working in processes"]


@pytest.mark.parametrize("flow", WORKING)
def test_a_cancelled_run_ends_as_cancelled_by_its_own_engine(fork: WarmFork, flow: str) -> None:
    run = fork.start(flow, env={"PREFECT__LOGGING__LEVEL": "INFO"})
    wait_until(
        lambda: "working on 1" in run.messages(),
        timeout_s=60,
        what=lambda: f"the task to work:\n{run.process.describe()}",
    )
    run.client.do("cancel_flow_run", flow_run_id=run.id)
    run.process.stop(grace_s=10.0)
    record = ended(run)
    assert (record["reason"], record["exit_code"], record["leftovers_count"]) == ("cancelled", 0, 0)
    assert run.states == ["Scheduled", "Submitted", "Running", "Cancelling", "Cancelled"]
    assert "Flow is Cancelled" in run.messages()
    assert "after" not in run.messages()
    # In 0.x the engine itself terminates the processes of its pool.
    if fork.installation.is_prefect_1 or flow != "working in processes":
        assert "cleaned up 1" in run.process.lines("stdout")


def test_a_run_that_is_ended_for_another_reason_is_unwound_and_reports_nothing(fork: WarmFork) -> None:
    run = fork.start("working")
    run.process.wait_for_line("working on 1")
    run.process.stop(reason="agent_stop", grace_s=10.0)
    record = ended(run)
    assert (record["reason"], record["exit_code"]) == ("agent_stop", 1)
    assert run.states[-1] == "Running"
    assert "cleaned up 1" in run.process.lines("stdout")
    assert run.process.lines("stderr") == ["Aborted!"]


def test_a_run_that_does_not_end_in_its_grace_time_is_killed(fork: WarmFork) -> None:
    run = fork.start("working")
    run.process.wait_for_line("working on 1")
    run.process.stop(grace_s=0.0)
    assert ended(run)["signal"] == signal.SIGKILL


def test_a_task_whose_child_is_killed_fails_its_flow(fork: WarmFork) -> None:
    run = fork.start("killing a child")
    assert ended(run)["exit_code"] == 0
    assert run.states[-1] == "Failed"
    assert "child ended with -9" in run.process.lines("stdout")
    assert any("RuntimeError: the child is gone" in message for message in run.messages())


def test_a_fork_of_a_task_logs_too(fork: WarmFork) -> None:
    run = fork.start("forking")
    assert ended(run)["exit_code"] == 0
    spoken = [(message, task) for _, _, message, task in run.records() if "the fork" in message]
    assert spoken == [("in the fork", "fork"), ("behind the fork", "fork")]


def test_a_flow_that_is_killed_leaves_its_last_words_and_its_cause(fork: WarmFork) -> None:
    run = fork.start("killing itself")
    record = ended(run)
    assert (record["reason"], record["signal"]) == ("signal", signal.SIGKILL)
    assert run.messages()[-1] == "last words"
    assert run.states[-1] == "Running"


def test_workers_in_processes_of_their_own_log_through_the_journal(fork: WarmFork) -> None:
    run = fork.start("in processes", env={"PREFECT__LOGGING__LEVEL": "INFO"})
    assert ended(run)["exit_code"] == 0
    assert run.states[-1] == "Success", run.process.describe()
    spoken = sorted((message, task) for _, _, message, task in run.records() if "in another process" in message)
    assert spoken == [(f"task {number} in another process: True", "pid") for number in (1, 2, 3)]
    assert sorted(run.process.lines("stdout")) == [f"printed by {number}" for number in (1, 2, 3)]


def test_the_engine_starts_no_process_for_heartbeats(fork: WarmFork) -> None:
    run = fork.start("waiting", parameters={"seconds": 1.5}, env={"PREFECT__CLOUD__HEARTBEAT_INTERVAL": "0.5"})
    ended(run)
    assert run.states[-1] == "Success"
    assert run.process.lines("stdout") == ["heartbeat processes: []"]


def test_old_task_runs_get_the_heartbeats_that_old_servers_go_by(fork: WarmFork) -> None:
    if fork.installation.is_prefect_1:
        pytest.skip(f"Prefect {fork.installation.version} has no heartbeats of task runs")
    run = fork.start("waiting", parameters={"seconds": 2.0}, env={"PREFECT__CLOUD__HEARTBEAT_INTERVAL": "0.2"})
    ended(run)
    fields = "task_runs { task { name } heartbeat states { state timestamp } }"
    row = next(row for row in run.client.run(run.id, fields)["task_runs"] if row["task"]["name"] == "wait")
    running = next(state["timestamp"] for state in row["states"] if state["state"] == "Running")
    late = datetime.fromisoformat(row["heartbeat"]) - datetime.fromisoformat(running)
    assert late.total_seconds() > 1.0


def test_an_interruption_by_the_engine_and_one_by_the_agent_are_one(fork: WarmFork) -> None:
    run = fork.start("working", env={"PREFECT__CLOUD__CHECK_CANCELLATION_INTERVAL": "0.2"})
    run.process.wait_for_line("working on 1")
    started = run.process.started
    assert started is not None
    run.client.do("cancel_flow_run", flow_run_id=run.id)
    for _ in range(3):
        os.kill(started["flow_pid"], signal.SIGINT)
    run.process.stop(grace_s=10.0)
    assert ended(run)["exit_code"] == 0
    assert run.states[-1] == "Cancelled"
    assert "cleaned up 1" in run.process.lines("stdout")


def test_without_a_warm_fork_the_results_are_the_same(fork: WarmFork, tmp_path: Path) -> None:
    """An interpreter that starts with a thread forbids forking; each runner is then an interpreter of its own."""
    (tmp_path / "sitecustomize.py").write_text(THREAD_AT_START)
    env = {"HOME": str(fork.home), "PYTHONPATH": str(tmp_path)}
    cold = ForkServer(str(fork.installation.python), tmp_path / "runs", preload=PREFECT_PRELOAD, env=env)
    try:
        assert cold.ready["threads"] == 2
        run = fork.start("speaking", fork_server=cold, env={"PREFECT__LOGGING__LEVEL": "INFO"})
        assert ended(run)["exit_code"] == 0
        working = fork.start("working", fork_server=cold)
        working.process.wait_for_line("working on 1")
        working.client.do("cancel_flow_run", flow_run_id=working.id)
        working.process.stop(grace_s=10.0)
        ended(working)
    finally:
        cold.close()
    assert run.states == ["Scheduled", "Submitted", "Running", "Success"]
    assert working.states[-1] == "Cancelled"
    warm = fork.start("speaking", env={"PREFECT__LOGGING__LEVEL": "INFO"})
    ended(warm)

    def logged(run: Prefect1EngineRun) -> list[tuple[str, int, str, str | None]]:
        # Only the first line: frames above the engine's own differ in a stack.
        return [(name, level, text.splitlines()[0], task) for name, level, text, task in run.records()]

    assert logged(run) == logged(warm)
    assert run.process.lines("stdout", "stderr") == warm.process.lines("stdout", "stderr")


def test_a_flow_that_cannot_be_loaded_is_reported_by_prefect_itself(fork: WarmFork) -> None:
    location = run_storage(fork, "lost")
    moved = location.rename(location.with_suffix(".away"))
    try:
        run = fork.start("lost")
        record = ended(run)
    finally:
        moved.rename(location)
    assert (record["reason"], record["exit_code"]) == ("exception", 1)
    error = "ModuleNotFoundError" if fork.installation.is_prefect_1 else "FileNotFoundError"
    assert record["exception"]["type"] == error
    assert run.states[-1] == "Failed"
    what = (
        "Failed to load and execute flow run"
        if fork.installation.is_prefect_1
        else "Failed to load and execute Flow's environment"
    )
    assert run.message.startswith(f"{what}: {error}")
    assert run.process.lines("stderr")[0] == "Traceback (most recent call last):"


def run_storage(fork: WarmFork, flow: str) -> Path:
    found = fork.client.ask(f'{{ flow_by_pk(id: "{fork.flows[flow]}") {{ storage }} }}')
    return Path(found["flow_by_pk"]["storage"]["flows"][flow])


@pytest.mark.parametrize(
    ("flow", "says"), [("scripted", "read from a script"), ("in a module", "imported as a module")]
)
def test_a_flow_is_loaded_as_its_storage_says(fork: WarmFork, flow: str, says: str) -> None:
    if flow not in fork.flows:
        pytest.skip(f"Prefect {fork.installation.version} has no such storage")
    run = fork.start(flow)
    assert ended(run)["exit_code"] == 0
    assert run.states[-1] == "Success"
    assert says in run.messages()
