"""`flowherd register` with rules, and what its runs come to, at a real server."""

from __future__ import annotations

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from tests.acceptance.client_commands.helpers import FakeAgent, register
from tests.support.commands import CommandLine
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


def settings_of(transport: GraphQLTransport, name: str) -> object:
    flows = transport.execute(f'query {{ flow(where: {{name: {{_eq: "{name}"}}}}) {{ settings }} }}')["flow"]
    return flows[0]["settings"]


def state_of(transport: GraphQLTransport, run_id: str) -> tuple[str, str]:
    row = transport.execute(f'query {{ flow_run_by_pk(id: "{run_id}") {{ state state_message }} }}')["flow_run_by_pk"]
    return row["state"], row["state_message"]


def test_rules_reach_the_server_and_new_flows_make_up_for_the_last_run_only(
    command: CommandLine, transport: GraphQLTransport
) -> None:
    assert register(command, "usual")["rules"] == {"overlap": "allow", "catch_up": "last"}
    assert settings_of(transport, "usual") == {"flowherd": {"overlap": "allow", "catch_up": "last"}}
    options = ["--overlap", "queue", "--catch-up", "none", "--max-running", "2", "--retries", "3", "--never-stuck"]
    retrying = ["--retry-delay", "30s", "--retry-backoff", "2", "--retry-on", "failed,exit:75", "--retry-on", "lost"]
    register(command, "strict", *options, *retrying)
    assert settings_of(transport, "strict") == {
        "flowherd": {
            "overlap": "queue",
            "catch_up": "none",
            "max_running": 2,
            "retries": 3,
            "retry_delay_s": 30.0,
            "retry_backoff": 2.0,
            "retry_on": ["failed", "exit:75", "lost"],
            "never_stuck": True,
        }
    }
    done = command("register", "said", *options, *retrying, "--command", "--", "true").stdout
    assert "at most 2 at once; overlap: queue; catch-up: none; up to 3 retries after 30 s, each further pause 2" in done


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--overlap", "never"], "--overlap 'never' is none of allow, skip, queue, replace"),
        (["--retry-delay", "3s"], "--retry-delay says nothing without --retries"),
        (["--retries", "1", "--retry-on", "exit:0"], "'exit:0' is no cause"),
        (["--retries", "1", "--retry-delay", "2d"], "longer than a day"),
    ],
)
def test_rules_that_say_nothing_are_refused(command: CommandLine, options: list[str], complaint: str) -> None:
    assert complaint in command("register", "wrong", *options, "--command", "--", "true", code=2).stderr


def test_a_run_that_was_skipped_says_so_everywhere(
    command: CommandLine, transport: GraphQLTransport, agent: FakeAgent
) -> None:
    register(command, "alone", "--overlap", "skip")
    first = command.run("alone", "--run-name", "first")
    agent.state(first, "Submitted", claim="a")
    agent.state(first, "Running", claim="a")
    second = command.run("alone", "--run-name", "second")
    assert state_of(transport, second) == ("Skipped", "first of the same flow was still running (overlap: skip).")
    assert "first of the same flow was still running (overlap: skip)" in command("explain", second).stdout
    assert command.runs()[second]["state"] == "Skipped"


def test_a_run_that_waits_for_room_says_for_what(
    command: CommandLine, transport: GraphQLTransport, agent: FakeAgent
) -> None:
    register(command, "one by one", "--overlap", "queue")
    first, second = command.run("one by one", "--run-name", "first of them"), command.run("one by one")
    agent.state(first, "Submitted", claim="a")
    assert state_of(transport, second)[0] == "Queued"
    why = "Waits for room: first of them of the same flow is still running (overlap: queue)."
    assert command.json("explain", second)["waiting"] == [why]
    assert [run["id"] for run in command.json("flow", "one by one")["last_runs"]] == [second, first]
    command("cancel", first)
    assert state_of(transport, second)[0] == "Scheduled"


def test_the_server_looks_by_itself_when_a_run_is_due(
    command: CommandLine, transport: GraphQLTransport, agent: FakeAgent
) -> None:
    flow = register(command, "each second", "--interval", "1s", "--overlap", "replace", "--catch-up", "all")
    run_id = command.run("each second")
    agent.state(run_id, "Submitted", claim="a")
    agent.state(run_id, "Running", claim="a")
    wait_until(lambda: state_of(transport, run_id)[0] == "Cancelling", timeout_s=20)
    assert "takes its place (overlap: replace)" in state_of(transport, run_id)[1]
    transport.mutate("set_schedule_inactive", {"flow_id": flow["id"]}, "success")


def test_a_failed_run_shows_its_attempts(command: CommandLine, transport: GraphQLTransport, agent: FakeAgent) -> None:
    register(command, "again", "--retries", "2", "--retry-delay", "1h")
    run_id = command.run("again")
    agent.state(run_id, "Submitted", claim="a")
    figures = {"exit_code": 3, "cpu_time_s": 1.5, "peak_memory_bytes": 3 * 2**20}
    marks = {"claim": "a", "reason": "exited", "grade": "proven", "figures": figures}
    agent.state(run_id, "Failed", "The flow process exited with code 3.", **marks)
    state, message = state_of(transport, run_id)
    assert (state, message.partition(" The next")[0]) == (
        "Retrying",
        "Attempt 1 of 3 ended: Failed: The flow process exited with code 3.",
    )
    assert "The next one starts in 3600 s." in command("logs", run_id).stdout
    explained = command("explain", run_id).stdout
    assert "attempt 1: Failed, exit code 3, CPU 1.5s, peak memory 3.0 MiB" in explained
    assert "Attempt 1 of 3 ended: Failed: The flow process exited with code 3." in explained
    [first] = command.json("explain", run_id)["attempts"]
    assert (first["exit_code"], first["cpu_time_s"], first["reason"]) == (3, 1.5, "exited")


def write_line(transport: GraphQLTransport, run_id: str, token: str, message: str) -> None:
    """Write a line of a run's journal, as an agent does; each attempt has a journal with a token of its own."""
    log = {"flow_run_id": run_id, "name": "stdout", "level": "INFO", "message": message, "line_id": f"{token}:0"}
    transport.mutate("write_run_logs", {"logs": [log]}, "success")


def test_the_log_of_one_attempt(command: CommandLine, transport: GraphQLTransport, agent: FakeAgent) -> None:
    register(command, "in parts", "--retries", "2")
    run_id = command.run("in parts")
    for number in (1, 2, 3):
        agent.state(run_id, "Submitted", claim="a")
        write_line(transport, run_id, f"token{number}", f"line of attempt {number}")
        if number < 3:
            agent.state(run_id, "Failed", claim="a", at=f"2026-01-01T00:00:0{number}+00:00", reason="exited")
    for number in (1, 2, 3):
        lines = command("logs", run_id, "--attempt", str(number), "--timestamps", "none").stdout.splitlines()
        assert len(lines) == 1 and lines[0].endswith(f"line of attempt {number}")
    assert "its latest is 3" in command("logs", run_id, "--attempt", "4", code=4).stderr
    assert "for the log of one run" in command("logs", run_id, "-f", "--attempt", "1", code=2).stderr
    assert len(command("logs", run_id).stdout.splitlines()) == 5
