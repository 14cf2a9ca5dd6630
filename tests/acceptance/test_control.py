"""Pausing, draining, restarting and stopping an agent, by commands and by signals, through the real command line."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.commands import READY, Background, CommandLine, background
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    home = tmp_path / "home"
    home.mkdir()
    return CommandLine(home, {"FLOWHERD__SERVER__BIND_PORT": "0", "FLOWHERD__AGENT__GRACE": "1"})


@pytest.fixture
def server(command: CommandLine) -> Iterator[None]:
    with background(command, "server", "--port", "0", until="ready at"):
        yield


class Patient:
    """A flow that prints "before", waits until it is let go, and then prints "after"."""

    def __init__(self, command: CommandLine, tmp_path: Path, name: str = "patient", first: str = ":") -> None:
        self._command, self._name = command, name
        self.half, self._go = tmp_path / f"{name}.half", tmp_path / f"{name}.go"
        script = f"{first}; echo before; touch {self.half}; while [ ! -e {self._go} ]; do sleep 0.05; done; echo after"
        command("register", name, "--command", "--", "sh", "-c", script)

    def start(self) -> str:
        run_id = self._command.run(self._name)
        wait_until(self.half.exists, what="the run's beginning")
        return run_id

    def let_go(self) -> None:
        self._go.touch()


def state_of(command: CommandLine, run_id: str) -> str:
    return str(command.runs()[run_id]["state"])


def api_address(agent: Background) -> str:
    wait_until(lambda: "API at " in agent.text(), what=agent.text)
    return agent.text().split("API at ")[1].split()[0]


def wait_for_exit(agent: Background, timeout_s: float = 30) -> int:
    wait_until(lambda: agent.process.poll() is not None, timeout_s=timeout_s, what=agent.text)
    assert agent.process.returncode is not None
    return agent.process.returncode


def test_a_paused_agent_claims_nothing_and_its_runs_go_on(command: CommandLine, server: None, tmp_path: Path) -> None:
    """Also after it was killed and started again. Health is "paused", with status 200; resume claims at once."""
    flow = Patient(command, tmp_path)
    command("register", "quick", "--command", "--", "true")
    with background(command, "start", until=READY) as agent:
        going = flow.start()
        assert command.json("pause")["status"] == "paused"
        assert f"up, pid {agent.process.pid}, paused" in command("status").stdout
        waiting = command.run("quick")
        command("poke")
        wait_until(lambda: "Claiming nothing: paused" in agent.text())
        flow.let_go()
        assert command.wait_for_ends([going])[going]["state"] == "Success"
        assert state_of(command, waiting) == "Scheduled"
        agent.kill()
    with background(command, "start", "--agent-address", "http://127.0.0.1:0", until=READY) as agent:
        wait_until(lambda: "Claiming nothing: paused" in agent.text())
        address = api_address(agent)
        health = requests.get(f"{address}/api/health", timeout=10)
        assert (health.status_code, health.json()["status"]) == (200, "paused")
        assert state_of(command, waiting) == "Scheduled"
        assert command("resume").stdout == "agent claims runs again\n"
        assert command.wait_for_ends([waiting])[waiting]["state"] == "Success"
        assert requests.get(f"{address}/api/health", timeout=10).json()["status"] == "ok"


def test_a_drained_agent_ends_when_its_runs_have_and_logs_the_deadline_in_each(
    command: CommandLine, server: None, tmp_path: Path
) -> None:
    flow = Patient(command, tmp_path)
    command("register", "quick", "--command", "--", "true")
    with background(command, "start", until=READY) as agent:
        run_id = flow.start()
        printed = command("drain", "--deadline", "10m").stdout
        assert printed == "agent is draining: 1 run is still running; then it ends\n"
        waiting = command.run("quick")
        wait_until(lambda: any("may go on until" in line for line in command.lines(run_id, "flowherd")))
        assert "already stopping" in command("drain", code=1).stderr
        flow.let_go()
        assert wait_for_exit(agent) == 0
    assert state_of(command, run_id) == "Success"
    assert command.lines(run_id) == ["before", "after"]
    assert state_of(command, waiting) == "Scheduled"


def test_at_the_deadline_of_a_drain_the_runs_are_ended(command: CommandLine, server: None, tmp_path: Path) -> None:
    flow = Patient(command, tmp_path)
    with background(command, "start", until=READY) as agent:
        run_id = flow.start()
        command("drain", "--deadline", "500ms", "--wait")
        assert agent.process.poll() == 0  # not only on its way out
    ended = command.runs()[run_id]
    assert (ended["state"], ended["reason"]) == ("Cancelled", "agent_stop")
    assert "deadline" in ended["message"]


def test_a_restart_in_place_loses_no_run_and_no_line(command: CommandLine, server: None, tmp_path: Path) -> None:
    with background(command, "start", until=READY) as agent:
        _restarts_without_loss(command, tmp_path, agent)


def test_a_restart_also_restarts_the_agents_own_server(command: CommandLine, tmp_path: Path) -> None:
    """The runs go on, although a stop of such an agent ends them."""
    with background(command, "start", until=READY) as agent:
        before = (command.home / "server.json").read_text()
        _restarts_without_loss(command, tmp_path, agent)
        assert (command.home / "server.json").read_text() != before
        assert agent.stop() == 0
    assert not (command.home / "server.json").exists()


def _restarts_without_loss(command: CommandLine, tmp_path: Path, agent: Background) -> None:
    flow = Patient(command, tmp_path)
    run_id = flow.start()
    for restarts in (1, 2):
        facts = command.json("restart")
        assert (facts["pid"], facts["runs"]) == (agent.process.pid, 1)
        assert agent.text().count("Found a run of an earlier agent: alive") == restarts
    wait_until(lambda: agent.text().count(READY) == 3)
    flow.let_go()
    assert command.wait_for_ends([run_id])[run_id]["state"] == "Success"
    assert command.lines(run_id) == ["before", "after"]
    command("register", "quick", "--command", "--", "true")
    assert command("run", "quick", "--wait").returncode == 0


def test_restarts_while_runs_come_and_go_start_each_once(command: CommandLine, server: None, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    words = "sleep 0.2; for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.05; done"
    command("register", "talker", "--command", "--", "sh", "-c", f"echo $FLOWHERD_FLOW_RUN_ID >> {marks}; {words}")
    run_ids = []
    with background(command, "start", until=READY):
        for _ in range(4):
            run_ids += [command.run("talker") for _ in range(3)]
            command("restart")
        ends = command.wait_for_ends(run_ids)
    assert {ends[run_id]["state"] for run_id in run_ids} == {"Success"}
    assert sorted(marks.read_text().split()) == sorted(run_ids)
    for run_id in run_ids:
        assert command.lines(run_id) == list("123456789")


def test_each_further_signal_stops_the_agent_faster(command: CommandLine, server: None, tmp_path: Path) -> None:
    """The first drains, the second ends the runs, at the third the agent ends without waiting for them."""
    flow = Patient(command, tmp_path, first="trap '' TERM")
    flags = ["start", "--on-stop", "drain"]
    with background(command, *flags, until=READY) as agent:
        run_id = flow.start()
        agent.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "Draining: waiting for 1" in agent.text())
        assert command.json("status")["local"]["status"] == "draining"
        agent.process.send_signal(signal.SIGINT)
        assert wait_for_exit(agent) == 0
    assert state_of(command, run_id) == "Cancelled"

    flow.half.unlink()
    stubborn = CommandLine(command.home, {**command.env, "FLOWHERD__AGENT__GRACE": "20"})
    with background(stubborn, *flags, until=READY) as agent:
        run_id = flow.start()
        for text in ("Draining: waiting for 1", "Ending the run", "Leaving 1 flow run"):
            agent.process.send_signal(signal.SIGTERM)
            wait_until(lambda text=text: text in agent.text(), what=agent.text)  # type: ignore[misc]
        assert wait_for_exit(agent) == 0
    with background(command, "start", until=READY):
        # It was asked to end before the first agent left; the next agent carries that out.
        flow.let_go()
        assert command.wait_for_ends([run_id])[run_id]["state"] in ("Cancelled", "Success")


def test_two_signals_at_once_are_two_steps(command: CommandLine, server: None, tmp_path: Path) -> None:
    flow = Patient(command, tmp_path)
    with background(command, "start", "--on-stop", "drain", until=READY) as agent:
        run_id = flow.start()
        os.kill(agent.process.pid, signal.SIGTERM)
        os.kill(agent.process.pid, signal.SIGINT)
        assert wait_for_exit(agent) == 0
    assert state_of(command, run_id) == "Cancelled"


def test_a_run_that_ends_without_an_agent_is_reported_by_the_next_agent(
    command: CommandLine, server: None, tmp_path: Path
) -> None:
    flow = Patient(command, tmp_path)
    with background(command, "start", until=READY) as agent:
        run_id = flow.start()
        assert agent.stop() == 0
        assert "Leaving 1 flow run(s) running" in agent.text()
    assert state_of(command, run_id) == "Running"
    flow.let_go()
    exit_record = command.home / "agents" / "agent" / "runs" / run_id / "exit.json"
    wait_until(exit_record.exists, what="the run's end")
    with background(command, "start", until=READY):
        assert command.wait_for_ends([run_id])[run_id]["state"] == "Success"
    assert command.lines(run_id) == ["before", "after"]


def test_a_missing_agent_is_a_clear_error(command: CommandLine, server: None) -> None:
    """If there never was one, and if one was killed, whose socket the next one takes over."""
    for words in (["pause"], ["resume"], ["drain"], ["restart"], ["reload"]):
        assert "no agent 'agent' runs on" in command(*words, code=3).stderr
    with background(command, "start", until=READY) as agent:
        agent.kill()
    assert "no agent 'agent' runs on" in command("pause", code=3).stderr
    with background(command, "start", until=READY):
        assert command.json("resume")["status"] == "ok"
        assert "no agent 'other'" in command("pause", "-n", "other", code=3).stderr


def test_only_the_owner_can_use_the_control_socket_and_its_path_may_be_long(command: CommandLine, server: None) -> None:
    """The address of a socket has room for 107 bytes (unix(7)); the path of a state directory may be longer."""
    deep = command.home / ("d" * 100) / ("e" * 100)
    there = CommandLine(command.home, {**command.env, "FLOWHERD__AGENT__STATE_DIR": str(deep)})
    with background(there, "start", until=READY):
        assert command.json("pause", "--state-dir", str(deep))["paused"] is True
        status = (deep / "control.sock").stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o600
    assert not (deep / "control.sock").exists()


def test_the_api_over_tcp_takes_the_same_commands_and_is_protected(
    command: CommandLine, server: None, tmp_path: Path
) -> None:
    flags = ["start", "--agent-address", "http://127.0.0.1:0"]
    with background(command, *flags, until=READY) as agent:
        address = api_address(agent)
        for path in ("pause", "resume", "drain", "restart", "reload"):
            assert requests.get(f"{address}/api/{path}", timeout=10).status_code == 405
            foreign = {"Origin": "http://evil.example"}
            assert requests.post(f"{address}/api/{path}", headers=foreign, timeout=10).status_code == 403
        for wrong in ("x", "nan", "-1", "inf"):
            assert requests.post(f"{address}/api/drain?deadline_s={wrong}", timeout=10).status_code == 400
        assert requests.post(f"{address}/api/pause", timeout=10).json()["status"] == "paused"
        assert command.json("resume", "--agent-address", address)["status"] == "ok"
        assert requests.post(f"{address}/api/drain?deadline_s=5", timeout=10).json()["status"] == "draining"
        assert wait_for_exit(agent) == 0
    keyed = CommandLine(command.home, {**command.env, "FLOWHERD__AGENT__API_TOKEN": "key"})
    with background(keyed, *flags, until=READY) as agent:
        address = api_address(agent)
        assert requests.post(f"{address}/api/drain", timeout=10).status_code == 401
        assert "needs a token" in command("drain", "--agent-address", address, code=2).stderr
        assert json.loads(keyed("pause", "--agent-address", address, "--json").stdout)["paused"] is True
