"""Runs of the kind "prefect3" in the warm fork, by the real Prefect 3, at its real server."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowherd_runner.contract.variables import PREFECT3_PRELOAD
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.peers.prefect3.warm_fork import Prefect3EngineRun, WarmFork, running_warm_fork
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STARTED = ["Scheduled", "Pending", "Running"]


@pytest.fixture(scope="module")
def fork(prefect: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmFork]:
    with running_warm_fork(prefect, tmp_path_factory.mktemp("fork")) as fork:
        yield fork


def test_the_fork_server_has_imported_prefect_and_has_one_thread(fork: WarmFork) -> None:
    ready = fork.fork_server.ready
    assert (ready["preloaded"], ready["failed"], ready["threads"]) == (list(PREFECT3_PRELOAD), {}, 1)


def test_the_secret_fields_of_a_block_are_masked_once_the_flow_has_loaded_it(fork: WarmFork) -> None:
    fork.prefect.keep_secret("kept-by-a-test", "of-the-block")
    run = fork.start("keeping")
    run.end()
    assert run.process.lines("stdout") == ["block ***"]
    assert any(text.endswith("kept-by-a-test.value") for text in run.process.lines("flowherd"))


def test_a_flow_reports_its_states_and_every_record_is_journaled_once(fork: WarmFork) -> None:
    run = fork.start("speaking", parameters={"word": "\u00e9"})
    record = run.end()
    assert (record["reason"], record["exit_code"], record["leftovers_count"]) == ("exited", 0, 0)
    assert run.states == [*STARTED, "Completed"]
    records = [one for one in run.records() if one[0] in ("prefect.flow_runs", "prefect.task_runs")]
    texts = [(logger, level, text) for logger, level, text, _ in records]
    assert texts.count(("prefect.flow_runs", 20, "prints \u00e9")) == 1
    assert texts.count(("prefect.flow_runs", 30, "of the flow")) == 1
    assert texts[-1] == ("prefect.flow_runs", 20, "Finished in state Completed()")
    spoken = {text: task for _, _, text, task in records if text.startswith("says")}
    assert sorted(spoken) == ["says \u00e9 1", "says \u00e9 2"]
    asked = {"flow_runs": {"id": {"any_": [run.id]}}}

    def task_runs() -> set[str | None]:
        return {row["id"] for row in fork.prefect.ask("POST", "/task_runs/filter", asked)}

    wait_until(lambda: task_runs() == set(spoken.values()), what="the server to make task runs of their events")
    # The journal has them, and the engine has not sent them to the server too.
    assert fork.prefect.log(run.id) == []


def test_what_is_printed_is_in_the_journal_and_records_are_not_printed_too(fork: WarmFork) -> None:
    run = fork.start("speaking")
    run.end()
    assert run.process.lines("stdout") == ["by a child"]
    printed = "\n".join(run.process.lines("stderr"))
    assert "of nobody" in printed and "to stderr" in printed
    assert "of the flow" not in printed and "says" not in printed


def test_a_coroutine_flow_runs(fork: WarmFork) -> None:
    run = fork.start("speaking_later")
    assert run.end()["exit_code"] == 0
    assert run.states[-1] == "Completed" and "later hello" in run.messages()


def test_the_records_of_a_subflow_are_journaled_as_those_of_a_flow_run_of_its_own(fork: WarmFork) -> None:
    run = fork.start("outer")
    assert run.end()["exit_code"] == 0
    assert "behind the subflow" in run.messages_of(None) and "of the subflow" not in run.messages_of(None)
    asked = {"flow_runs": {"parent_flow_run_id": {"any_": [run.id]}}}
    (subflow,) = fork.prefect.ask("POST", "/flow_runs/filter", asked)
    assert subflow["state"]["type"] == "COMPLETED"
    of_it = run.messages_of(subflow["id"])
    assert of_it.count("of the subflow") == 1 and of_it[-1] == "Finished in state Completed()"
    of_task = [task for _, _, text, task in run.records() if text == "says of a subflow's task"]
    assert len(of_task) == 1 and of_task[0] is not None and "says of a subflow's task" in of_it
    # The journal has them, and the engine has not sent them to the server too.
    assert fork.prefect.log(subflow["id"]) == []
    assert "of the subflow" not in "\n".join(run.process.lines("stderr"))


def test_a_flow_is_tried_again_by_its_own_engine(fork: WarmFork) -> None:
    run = fork.start("retried")
    assert run.end()["exit_code"] == 0
    assert [text for text in run.messages() if text.startswith("try")] == ["try 1", "try 2"]
    assert run.states[-1] == "Completed"


@pytest.mark.parametrize(
    ("flow", "state"), [("failing", "Failed"), ("overdue", "TimedOut"), ("suspended", "Suspended")]
)
def test_an_end_that_the_engine_has_reported_is_no_failure_of_the_process(
    fork: WarmFork, flow: str, state: str
) -> None:
    run = fork.start(flow)
    record = run.end()
    assert (record["reason"], record["exit_code"]) == ("exited", 0)
    assert run.states == [*STARTED, state]


def test_a_paused_flow_goes_on_when_it_is_resumed(fork: WarmFork) -> None:
    run = fork.start("paused")
    wait_until(lambda: fork.prefect.state(run.id) == "PAUSED", timeout_s=60, what=run.process.describe)
    fork.prefect.ask("POST", f"/flow_runs/{run.id}/resume", {})
    assert run.end()["exit_code"] == 0
    assert run.states[-1] == "Completed" and "behind the pause" in run.messages()


def test_code_that_cannot_be_had_ends_the_process_with_its_error(fork: WarmFork) -> None:
    run = fork.start("missing")
    record = run.end()
    assert (record["reason"], record["exit_code"]) == ("exception", 1)
    assert run.states == ["Scheduled", "Pending"]
    assert any("trying to load flow" in text for text in run.messages())


@pytest.mark.parametrize("flow", ["working", "working_later"])
def test_a_cancelled_run_is_unwound_and_its_state_is_left_to_the_agent(fork: WarmFork, flow: str) -> None:
    run = fork.start(flow)
    run.process.wait_for_line("working", 60)
    fork.prefect.set_state(run.id, "CANCELLING")
    run.process.stop(grace_s=10.0)
    record = run.end()
    assert (record["reason"], record["exit_code"]) == ("cancelled", 0)
    assert run.states == [*STARTED, "Cancelling"]
    assert "cleaned up" in run.process.lines("stdout")
    assert "Flow run was cancelled." in run.messages()
    by_hooks = ["hook at Cancelling", "named ['flow', 'flow_run'] at Cancelling", "later at Cancelling"]
    assert [line for line in run.process.lines("stdout") if " at " in line] == (by_hooks if flow == "working" else [])
    succeeded = [text.split("'")[1] for text in run.messages() if text.endswith("finished running successfully")]
    of_flow = ["_hook", "_hook_by_name", "_hook_with_names_of_its_own"]
    assert succeeded == (of_flow if flow == "working" else [])


def test_a_run_that_is_ended_for_another_reason_reports_nothing(fork: WarmFork) -> None:
    run = fork.start("working")
    run.process.wait_for_line("working", 60)
    run.process.stop(reason="memory_limit", grace_s=10.0)
    assert run.end()["reason"] == "memory_limit"
    assert run.states == STARTED
    assert run.process.lines("stdout") == ["working", "cleaned up"]


def test_a_crash_that_the_engine_reports_runs_the_flows_hooks_in_its_process(fork: WarmFork) -> None:
    run = fork.start("terminated")
    run.process.wait_for_line("working", 60)
    started = run.process.started
    assert started is not None
    os.kill(started["flow_pid"], signal.SIGTERM)
    run.end()
    assert run.states == [*STARTED, "Crashed"]
    assert run.process.lines("stdout") == ["working", "hook at Crashed"]


def test_a_killed_run_leaves_its_last_words(fork: WarmFork) -> None:
    run = fork.start("killing_itself")
    record = run.end()
    assert (record["reason"], record["signal"]) == ("signal", signal.SIGKILL)
    assert run.messages()[-1] == "last words"


def look(run: Prefect3EngineRun) -> dict[str, Any]:
    """Return what the flow "looking" has seen."""
    run.end()
    line = next(line for line in run.process.lines("stdout") if line.startswith("SEEN "))
    seen: dict[str, Any] = json.loads(line[5:])
    return seen


def test_runs_at_once_and_one_after_the_other_see_only_their_own_settings(fork: WarmFork, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".prefect").mkdir(parents=True)
    profile = '[profiles.mine]\nPREFECT_API_KEY = "key-1"\nPREFECT_FLOWS_DEFAULT_RETRIES = "2"\n'
    (home / ".prefect" / "profiles.toml").write_text('active = "mine"\n' + profile)
    parameters = {"names": ["ONLY_FIRST", "ONLY_SECOND"]}
    first = {"HOME": str(home), "ONLY_FIRST": "1", "PREFECT_LOGGING_LEVEL": "DEBUG"}
    first["PREFECT_LOGGING_EXTRA_LOGGERS"] = "mine"
    second = {"ONLY_SECOND": "2", "PREFECT_HOME": str(tmp_path / "other"), "PREFECT_API_KEY": "key-2"}
    second["PREFECT_LOGGING_EXTRA_LOGGERS"] = "theirs"
    runs = [fork.prepare("looking", parameters=parameters, env=env) for env in (first, second, first)]
    for run in runs[:2]:
        fork.fork_server.start(run.process)
    seen = [look(run) for run in runs[:2]]
    seen.append(look(Prefect3EngineRun(fork.prefect, runs[2].id, fork.fork_server.start(runs[2].process))))
    assert (
        seen[0]
        == seen[2]
        == {
            "environ": {"ONLY_FIRST": "1", "ONLY_SECOND": None},
            "key": "key-1",
            "home": f"{home}/.prefect",
            "profiles": f"{home}/.prefect/profiles.toml",
            "level": "DEBUG",
            "retries": 2,
            "extra": ["mine"],
            "cwd": seen[0]["cwd"],
        }
    )
    assert seen[1] == {
        "environ": {"ONLY_FIRST": None, "ONLY_SECOND": "2"},
        "key": "key-2",
        "home": str(tmp_path / "other"),
        "profiles": f"{tmp_path}/other/profiles.toml",
        "level": "INFO",
        "retries": 0,
        "extra": ["theirs"],
        "cwd": seen[0]["cwd"],
    }
    environ = Path(f"/proc/{fork.fork_server.ready['pid']}/environ").read_bytes()
    assert not any(word in environ for word in (b"key-", b"ONLY_", runs[0].id.encode()))


def test_a_run_by_exec_in_a_fresh_interpreter_is_the_same(fork: WarmFork, tmp_path: Path) -> None:
    run = fork.prepare("speaking")
    with fork.threaded_fork_server(tmp_path) as fork_server:
        assert fork_server.ready["threads"] > 1
        fork_server.start(run.process)
        assert run.end()["exit_code"] == 0
    assert run.states == [*STARTED, "Completed"]
    assert "says hello 1" in run.messages() and run.process.lines("stdout") == ["by a child"]


def test_a_prefect_without_the_private_names_runs_the_flow_by_its_own_command_and_starts_commands(
    fork: WarmFork, tmp_path: Path
) -> None:
    with fork.fork_server_of_another_prefect(tmp_path) as fork_server:
        other = WarmFork(fork.prefect, fork.directory, fork_server, deployments=fork.deployments)
        run, command = other.start("speaking"), other.start("speaking", command=["sh", "-c", "echo $PREFECT_API_URL"])
        assert run.end()["exit_code"] == 0, run.process.describe()
        assert command.end()["exit_code"] == 0, command.process.describe()
    assert fork.prefect.state(run.id) == "COMPLETED"
    missing = (
        "has no prefect.flow_engine.load_flow_and_flow_run, "
        "prefect.runner._workspace_resolver.prepare_workspace as it is known here"
    )
    (why,) = run.messages()
    assert f"{missing}: run by `python -m prefect.engine`" in why
    (why,) = command.messages()
    assert f"{missing}: the command is run without the flow's code" in why
    assert command.process.lines("stdout") == [fork.prefect.api]


def test_a_process_that_a_flow_has_forked_is_ended_without_a_word_for_the_run(fork: WarmFork) -> None:
    run = fork.start("forking")
    assert run.end()["leftovers_count"] == 1
    assert run.states == [*STARTED, "Completed"]
    assert not [text for text in run.messages() if "Crash" in text]
