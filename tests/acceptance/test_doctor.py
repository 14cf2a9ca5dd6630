"""`flowherd doctor` grades what an agent needs and gives advice; it exits 1 only if something is bad."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from flowherd.cli.doctor.check_cgroup import check_cgroup
from tests.support.certificates import make_certificates
from tests.support.commands import READY, CommandLine, background
from tests.support.gates import Gate, standing
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    home = tmp_path / "home"
    home.mkdir()
    return CommandLine(home, {"FLOWHERD__SERVER__BIND_PORT": "0"})


def findings(command: CommandLine, *args: str, code: int = 0) -> dict[str, dict[str, Any]]:
    printed = json.loads(command("doctor", "--json", *args, code=code).stdout)
    assert printed["ok"] is (code == 0)
    assert all(check["advice"] for check in printed["checks"] if check["grade"] != "ok")
    return {check["check"]: check for check in printed["checks"]}


def test_a_running_agent_with_its_server_is_ok(command: CommandLine) -> None:
    with background(command, "start", until=READY):
        found = findings(command)
        for check in ("backend", "token", "clock", "agent", "state directory", "fork server", "spool", "leftovers"):
            assert found[check]["grade"] == "ok", found[check]
        assert "answers in" in found["backend"]["detail"]
        assert {"disk", "disk inodes", "open files", "processes", "pids", "pidfd", "sub-reaper", "cgroup"} <= set(found)
        assert {"inspection", "isolation private", "isolation sealed"} <= set(found)
        assert found["supervisor"]["grade"] == "warn"
        command("pause")
        paused = findings(command)["agent"]
        assert (paused["grade"], paused["advice"]) == ("warn", "`flowherd resume`")
        shown = command("doctor")
        assert "CHECK" in shown.stdout
        assert shown.stderr == ""


def test_an_api_that_does_not_answer_or_refuses_the_token_is_bad(command: CommandLine) -> None:
    assert findings(command, "-a", "http://127.0.0.1:9", code=1)["backend"]["grade"] == "bad"
    by_proxy = CommandLine(command.home, {**command.env, "HTTP_PROXY": "http://127.0.0.1:9"})
    assert "the proxy that HTTP_PROXY names" in findings(by_proxy, "-a", "http://api.test", code=1)["backend"]["advice"]
    guarded = CommandLine(command.home, {**command.env, "FLOWHERD__SERVER__TOKEN": "right"})
    with background(guarded, "server", until="ready at"):
        wrong = CommandLine(command.home, {**command.env, "FLOWHERD__CLOUD__AGENT__AUTH_TOKEN": "wrong"})
        assert findings(wrong, code=1)["token"]["grade"] == "bad"
        right = CommandLine(command.home, {**command.env, "FLOWHERD__CLOUD__AGENT__AUTH_TOKEN": "right"})
        assert findings(right)["token"]["detail"] == "accepted"


def test_what_is_in_force_on_the_way_to_the_api_is_shown_with_its_source(command: CommandLine, tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    environ = {"FLOWHERD__CLOUD__CUSTOM_HEADERS": "X-Gate-Key=let-me-in", "HTTPS_PROXY": "http://me:pw-1@127.0.0.1:9"}
    environ |= {"FLOWHERD__CLOUD__CLIENT_CERT": str(made.client), "NO_PROXY": "localhost"}
    environ |= {"REQUESTS_CA_BUNDLE": str(made.authority), "FLOWHERD__SERVER__BIND_PORT": "0"}
    with background(command, "server", until="ready at") as server:
        port = int(server.text().partition("ready at http://127.0.0.1:")[2].split()[0])
        gate = Gate(port, certificates=made, asks_client=True, needs={"X-Gate-Key": "let-me-in"})
        with standing(gate):
            api = f"https://localhost:{gate.port}"
            gated = CommandLine(command.home, {**command.env, **environ})
            found = findings(gated, "-a", api)
            gated("ps", "--api", api)
            unverified = {**environ, "PREFECT__CLOUD__TLS_INSECURE_SKIP_VERIFY": "true"}
            unsafe = findings(CommandLine(command.home, {**command.env, **unverified}), "-a", api)
            gate.needs = {"X-Gate-Key": "another"}
            refused = findings(gated, "-a", api, code=1)
    assert found["backend"]["grade"] == found["clock"]["grade"] == "ok"
    assert found["proxy"]["detail"] == "none, because of localhost in NO_PROXY (from variable NO_PROXY)"
    assert found["authorities"]["detail"] == f"{made.authority} (from variable REQUESTS_CA_BUNDLE)"
    assert found["client certificate"]["detail"].endswith("(from variable FLOWHERD__CLOUD__CLIENT_CERT)")
    assert found["headers"]["detail"] == "X-Gate-Key (from variable FLOWHERD__CLOUD__CUSTOM_HEADERS)"
    assert unsafe["TLS"]["grade"] == "warn" and "PREFECT__CLOUD__TLS_INSECURE_SKIP_VERIFY" in unsafe["TLS"]["detail"]
    assert "403" in refused["backend"]["detail"] and "token" not in refused


@contextmanager
def api_with_clock_at(date: str) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(b'{"data": {"hello": "hello"}}')

        def do_GET(self) -> None:
            self._answer(b"{}")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp: Any = None) -> str:
            return date

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_clock_that_is_off_is_bad(command: CommandLine) -> None:
    with api_with_clock_at("Thu, 01 Jan 2015 00:00:00 GMT") as url:
        clock = findings(command, "-a", url, code=1)["clock"]
    assert clock["grade"] == "bad"
    assert "behind this host's" in clock["detail"]


def test_a_preload_that_cannot_be_imported_is_bad(command: CommandLine) -> None:
    broken = CommandLine(command.home, {**command.env, "FLOWHERD__AGENT__PRELOAD": "no_such_module_of_ours"})
    found = findings(broken, code=1)["fork server"]
    assert "no_such_module_of_ours" in found["detail"]


def test_a_state_directory_that_others_can_read_is_a_warning(command: CommandLine, tmp_path: Path) -> None:
    place = tmp_path / "state"
    place.mkdir(mode=0o755)
    place.chmod(0o755)
    found = findings(command, "--state-dir", str(place))["state directory"]
    assert found["grade"] == "warn"
    assert f"chmod 700 {place}" in found["advice"]


def test_processes_of_a_run_whose_runner_was_killed_are_reported(command: CommandLine, tmp_path: Path) -> None:
    with background(command, "server", until="ready at"):
        command("register", "victim", "--command", "--", "sh", "-c", f"setsid sleep 100 & touch {tmp_path}/up; wait")
        with background(command, "start", until=READY) as agent:
            run_id = command.run("victim")
            wait_until((tmp_path / "up").exists)
            wait_until(lambda: command.runs()[run_id]["state"] == "Running")
            agent.kill()
        assert findings(command)["leftovers"]["grade"] == "ok"
        started = next(h for h in command.json("explain", run_id)["timeline"] if h["what"] == "started")
        os.kill(int(started["detail"].split()[1].rstrip(",")), signal.SIGKILL)
        found = wait_until(lambda: next((f for f in [findings(command)] if "unreported ends" in f), None))
        assert "1 run has ended" in found["unreported ends"]["detail"]
        assert "1 processes" in found["leftovers"]["detail"]
        assert "sleep (" in found["leftovers"]["detail"]
        with background(command, "start", until=READY):
            command.wait_for_ends([run_id])
        healed = findings(command)
        assert "unreported ends" not in healed
        assert healed["leftovers"]["grade"] == "ok"


def test_a_delegated_cgroup_is_recognised_and_a_missing_one_explained(tmp_path: Path) -> None:
    """On a copy of the kernel's directories, because this host may have no cgroups."""
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    for pid in ("self", "77"):
        (proc / pid).mkdir(parents=True)
    root.mkdir()
    (proc / "self" / "cgroup").write_text("0::/user.slice\n")
    (root / "user.slice").mkdir()
    assert "no cgroup (v2) is delegated to this shell" in check_cgroup(None, proc).detail
    (proc / "self" / "mountinfo").write_text(f"36 35 0:30 / {root} rw - cgroup2 cgroup2 rw\n")
    assert check_cgroup(None, proc).grade == "warn"
    # The agent is at the top of a container's own hierarchy.
    (proc / "77" / "cgroup").write_text("0::/\n")
    (root / "cgroup.subtree_control").write_text("cpu\n")
    assert "memory, pids" in check_cgroup(77, proc).detail
    (root / "cgroup.subtree_control").write_text("cpu memory pids\n")
    assert check_cgroup(77, proc).grade == "ok"
    assert check_cgroup(None, proc).grade == "warn"
