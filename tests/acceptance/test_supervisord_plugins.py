"""flowherd's plugins in a real supervisord and a real supervisorctl, beside an agent that it runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from tests.peers.environments import CACHE, Unavailable, interpreter
from tests.support.commands import CommandLine, background
from tests.support.leftovers import none_left
from tests.support.ports import free_port
from tests.support.supervisord import MAIN, Supervisord, running_supervisord
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PLUGINS = """
[inet_http_server]
port=127.0.0.1:{port}
username=operator
password=a b%%c

[rpcinterface:elsewhere]
supervisor.rpcinterface_factory = flowherd_supervisord:rpc_interface
socket = {place}/none.sock

[rpcinterface:wrong]
supervisor.rpcinterface_factory = flowherd_supervisord:rpc_interface
sockt = {socket}

[rpcinterface:silent]
supervisor.rpcinterface_factory = flowherd_supervisord:rpc_interface
socket = {place}/silent.sock
timeout = 60

[rpcinterface:hasty]
supervisor.rpcinterface_factory = flowherd_supervisord:rpc_interface
socket = {place}/silent.sock
timeout = 0.3

[ctlplugin:flowherd]
supervisor.ctl_factory = flowherd_supervisord:control_plugin
"""


@dataclass(frozen=True)
class Scene:
    command: CommandLine
    supervisord: Supervisord
    port: int

    def flowherd(self, *words: str, code: int = 0) -> str:
        """Run `supervisorctl flowherd`."""
        done = self.supervisord.call_control("flowherd", *words)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout

    def checks(self, *words: str, code: int = 0) -> dict[str, list[tuple[str, str]]]:
        """Run `flowherd doctor` and return grade and detail of its findings by the names of the checks."""
        printed = json.loads(self.command("doctor", "-n", "worker", "--json", *words, code=code).stdout)
        found: dict[str, list[tuple[str, str]]] = {}
        for each in printed["checks"]:
            found.setdefault(each["check"], []).append((each["grade"], each["detail"]))
        return found


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    # The path of supervisord's socket must be short: sun_path has room for 108 bytes (unix(7)).
    place = tmp_path_factory.mktemp("s")
    home = place / "home"
    home.mkdir()
    command, port = CommandLine(home), free_port()
    with none_left(), background(command, "server", "--port", "0", until="ready at"):
        where = ["--home", str(home), "--stdout-logfile", str(place / "worker.log")]
        how = ["--plugins", "--supervisor-python", sys.executable]
        (place / "flowherd.conf").write_text(
            command("install", "supervisord", "--name", "worker", "--limit", "8", *where, *how).stdout
        )
        socket = home / "agents" / "worker" / "control.sock"
        text = MAIN.format(place=place) + PLUGINS.format(place=place, port=port, socket=socket)
        with running_supervisord(place, text) as supervisord:
            assert supervisord.is_up(), (place / "out").read_text() + supervisord.log
            wait_until(socket.exists, what=lambda: supervisord.control("tail", "flowherd"))
            yield Scene(command, supervisord, port)


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment of Python 3.7 with supervisor 4.2.5, which is fetched once."""
    try:
        python = interpreter("3.7")
    except Unavailable as error:
        pytest.skip(str(error))
    packages = CACHE / "supervisor-4.2.5"
    if not packages.exists():
        half = packages.with_name(f"{packages.name}.{os.getpid()}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(half)]
        done = subprocess.run([*pip, "supervisor==4.2.5"], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"supervisor 4.2.5 cannot be installed: {done.stderr[-300:]}")
        half.rename(packages)
    venv = tmp_path_factory.mktemp("v") / "venv"
    subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
    (site,) = venv.glob("lib/python3.7/site-packages")
    of_python = subprocess.run(
        [python, "-c", "import setuptools; print(setuptools.__file__)"], capture_output=True, text=True, check=True
    )
    # supervisor 4.2 needs pkg_resources of setuptools.
    (site / "supervisor.pth").write_text(f"{packages}\n{Path(of_python.stdout.strip()).parents[1]}\n")
    return venv / "bin" / "python"


@pytest.fixture(scope="module")
def failed(scene: Scene) -> str:
    """Id of a run that has ended, whose lines have characters of all kinds."""
    script = "echo 'größer \N{HERB} & <b>'; printf '\\033[31mred\\n'; exit 3"
    scene.command("register", "doomed", "--command", "--", "sh", "-c", script)
    run_id = scene.flowherd("run", "doomed").strip()
    scene.command.wait_for_ends([run_id])
    return run_id


@pytest.fixture(scope="module")
def patient(scene: Scene) -> str:
    """Id of a run that goes on until it is cancelled."""
    scene.command("register", "patient", "--command", "--", "sh", "-c", "echo before; exec sleep 600")
    run_id = scene.flowherd("run", "patient").strip()
    wait_until(lambda: "pid" in scene.flowherd("runs") and "before" in scene.flowherd("logs", run_id))
    return run_id


def test_health_says_more_than_pid_and_uptime(scene: Scene, patient: str) -> None:
    pid = scene.supervisord.pid()
    assert scene.flowherd("health") == f"worker   pid {pid}, 1 run, limit 8\n"
    try:
        assert scene.flowherd("pause") == "worker: 1 run, limit 8, paused\n"
        assert scene.flowherd("health") == f"worker   pid {pid}, 1 run, limit 8, paused\n"
    finally:
        assert scene.flowherd("resume") == "worker: 1 run, limit 8\n"
    scene.flowherd("poke")


def test_the_runs_of_the_host_are_listed_and_explained(scene: Scene, patient: str, failed: str) -> None:
    (line,) = scene.flowherd("runs").splitlines()
    assert line.split()[1] == "Running" and f"patient, {patient[:8]}, pid " in line
    assert any(failed[:8] in line and "Failed" in line for line in scene.flowherd("runs", "--ended").splitlines())
    story = scene.flowherd("explain", failed[:10]).splitlines()
    assert story[0].endswith(f"({failed}), a run of doomed: Failed")
    assert "exited with code 3" in story[1]
    assert any("process ended" in line for line in story)


def test_a_run_that_waits_is_explained_by_the_agents_server(scene: Scene) -> None:
    scene.command("register", "elsewhere", "--label", "no-such-agent", "--command", "--", "true")
    run_id = scene.flowherd("run", "elsewhere").strip()
    assert "no-such-agent" in scene.flowherd("explain", run_id)
    assert scene.flowherd("cancel", run_id).endswith(f"({run_id}): Cancelled\n")


def test_a_log_comes_whole_whatever_its_characters(scene: Scene, failed: str) -> None:
    with scene.supervisord.proxy() as proxy:
        answer: Any = proxy.flowherd.logs(failed, 10)
        messages = [line["message"] for line in answer["lines"] if line["stream"] == "stdout"]
        assert messages == ["größer \N{HERB} & <b>", "\ufffd[31mred"]
        assert answer["finished"] is True
        (together,) = proxy.system.multicall([{"methodName": "flowherd.logs", "params": [failed, 10]}])  # type: ignore
        assert together == answer
    assert "größer \N{HERB} & <b>" in scene.flowherd("logs", failed)


def test_a_followed_log_ends_with_the_run(scene: Scene, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo first; while [ ! -e {go} ]; do sleep 0.05; done; echo last"
    scene.command("register", "two-lines", "--command", "--", "sh", "-c", script)
    run_id = scene.flowherd("run", "two-lines").strip()
    wait_until(lambda: "first" in scene.flowherd("logs", run_id))
    argv = ["-m", "supervisor.supervisorctl", "-c", str(scene.supervisord.configuration), "flowherd", "logs", "-f"]
    with subprocess.Popen([sys.executable, "-u", *argv, run_id], stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert "first" in follower.stdout.readline()
        go.touch()
        rest = follower.stdout.read()
    assert "last" in rest and "first" not in rest
    assert follower.returncode == 0


def test_runs_are_repeated_and_cancelled(scene: Scene, failed: str) -> None:
    repeated = scene.flowherd("retry", failed)
    assert repeated.endswith(f"({failed})\n")
    new = repeated.split()[0]
    scene.command.wait_for_ends([new])
    assert "was finished already: Failed" in scene.flowherd("cancel", new, code=1)
    both = scene.flowherd("cancel", "no-such-run", new, code=1).splitlines()
    assert both[0].startswith("no-such-run: ERROR (there is no run 'no-such-run'") and len(both) == 2


def test_parameters_of_a_new_run_are_checked(scene: Scene) -> None:
    scene.command("register", "greet", "-p", "whom=world", "--command", "--", "echo", "hello", "{whom}")
    run_id = scene.flowherd("run", "greet", "whom='moon & stars'").strip()
    scene.command.wait_for_ends([run_id])
    assert "hello moon & stars" in scene.flowherd("logs", run_id)
    assert "there is no flow 'greeet'" in scene.flowherd("run", "greeet", code=1)


def test_supervisorctl_is_told_what_is_wrong_by_its_usual_exit_codes(scene: Scene) -> None:
    assert "has no command 'rusn'" in scene.flowherd("rusn", code=2)
    assert scene.flowherd("explain", code=2) == "usage: flowherd explain RUN\n"
    assert "there is no run 'nothing'" in scene.flowherd("explain", "nothing", code=1)
    assert "flowherd explain RUN" in scene.flowherd()
    help_of_it = scene.supervisord.control("help", "flowherd")
    assert "flowherd logs [-f] [-LINES] RUN" in help_of_it and "No help" not in help_of_it
    assert "No help" not in scene.supervisord.control("help", "status")
    assert "flowherd" in scene.supervisord.control("help")


def test_words_are_completed_in_the_shell_of_supervisorctl(scene: Scene, patient: str) -> None:
    script = (
        "import sys\n"
        "from supervisor.options import ClientOptions\n"
        "from supervisor.supervisorctl import Controller\n"
        "options = ClientOptions()\n"
        "options.realize(sys.argv[1:])\n"
        "controller = Controller(options)\n"
        "for text, line in (('flowh', 'flowh'), ('ex', 'flowherd ex'), ('', 'flowherd cancel '), ('sta', 'sta')):\n"
        "    print([controller.complete(text, n, line) for n in range(9)])\n"
    )
    argv = [sys.executable, "-c", script, "-c", str(scene.supervisord.configuration)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    actions, commands, runs, usual = done.stdout.splitlines()
    name = scene.flowherd("runs").split()[0]
    assert "'flowherd '" in actions and "'explain '" in commands and f"'{name} '" in runs and "'status '" in usual


def test_the_inet_server_asks_for_supervisords_password(scene: Scene) -> None:
    address = f"http://127.0.0.1:{scene.port}"
    with (
        xmlrpc.client.ServerProxy(address, transport=SupervisorTransport(None, None, address)) as stranger,
        pytest.raises(xmlrpc.client.ProtocolError, match="401"),
    ):
        stranger.flowherd.health()
    known = SupervisorTransport("operator", "a b%c", address)
    with xmlrpc.client.ServerProxy(address, transport=known) as operator:
        health: Any = operator.flowherd.health()
        assert (health["agent"], health["status"]) == ("worker", "ok")
        methods: Any = operator.system.listMethods()
        assert {"flowherd.explain", "flowherd.drain", "flowherd.reload"} <= set(methods)
    words = ["-s", address, "-u", "operator", "-p", "a b%c"]
    assert "limit 8" in scene.supervisord.call_control(*words, "flowherd", "health").stdout


def test_supervisords_loop_goes_on_while_an_agent_does_not_answer(scene: Scene) -> None:
    answers: list[Any] = []

    def ask(namespace: str) -> None:
        with scene.supervisord.proxy() as proxy:
            try:
                answers.append(getattr(proxy, namespace).health())
            except xmlrpc.client.Fault as fault:
                answers.append(fault)

    place = scene.supervisord.place
    descriptors = Path(f"/proc/{scene.supervisord.process_id}/fd")
    before = len(list(descriptors.iterdir()))
    with socket.socket(socket.AF_UNIX) as listener, scene.supervisord.proxy() as proxy:
        listener.bind(str(place / "silent.sock"))
        listener.listen()
        asking = [threading.Thread(target=ask, args=("silent",)) for _ in range(5)]
        for thread in asking:
            thread.start()
        connections = [listener.accept()[0] for _ in asking]
        for connection in connections:
            assert connection.recv(65536).startswith(b"GET /api/agent HTTP/1.1\r\n")
        assert proxy.supervisor.getState() == {"statecode": 1, "statename": "RUNNING"}
        assert answers == []
        body = b'{"agent": "it", "status": "ok", "reason": "", "pid": 1, "runs": 3, "paused": false}'
        for connection in connections[:4]:
            for part in (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body[:20], body[20:]):
                connection.sendall(part)
            connection.close()
        connections[4].sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        connections[4].close()
        for thread in asking:
            thread.join()
        ask("hasty")
        # A client that goes away leaves nothing behind.
        with socket.socket(socket.AF_UNIX) as gone:
            gone.connect(str(place / "supervisor.sock"))
            call = xmlrpc.client.dumps((), "silent.health").encode()
            gone.sendall(b"POST /RPC2 HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(call) + call)
            listener.accept()[0].close()
            listener.accept()[0].close()
    assert [answer["summary"] for answer in answers if isinstance(answer, dict)] == ["3 runs"] * 4
    faults = [answer for answer in answers if isinstance(answer, xmlrpc.client.Fault)]
    assert "no flowherd agent" in faults[0].faultString
    assert "has not answered within 0.3 s" in faults[1].faultString
    wait_until(lambda: len(list(descriptors.iterdir())) <= before + 1)


def test_a_wrong_section_says_what_is_wrong_and_harms_nothing(scene: Scene) -> None:
    with scene.supervisord.proxy() as proxy:
        with pytest.raises(xmlrpc.client.Fault, match="has the key sockt; it knows socket and timeout"):
            proxy.wrong.runs()
        with pytest.raises(xmlrpc.client.Fault, match=r"no agent answers at .*none.sock .*is it running"):
            proxy.elsewhere.runs()
        with pytest.raises(xmlrpc.client.Fault, match="must be a struct"):
            proxy.flowherd.run("x", [1])
        with pytest.raises(xmlrpc.client.Fault, match="INCORRECT_PARAMETERS"):
            proxy.flowherd.explain()


def test_doctor_looks_at_the_running_supervisord(scene: Scene) -> None:
    found = scene.checks("--supervisor-conf", str(scene.supervisord.configuration))
    assert [grade for grade, _ in found["supervisor"]] == ["ok"]
    assert ("ok", f"[program:flowherd] keeps its log in {scene.supervisord.place}/worker.log") in [
        (grade, detail.partition(" and leaves")[0]) for grade, detail in found["supervisord's section"]
    ]
    plugins = "\n".join(f"{grade} {detail}" for grade, detail in found["supervisord's plugins"])
    assert "ok [rpcinterface:flowherd] reaches agent 'worker': " in plugins
    assert "warn [rpcinterface:elsewhere]: supervisord at" in plugins and "no agent answers at" in plugins
    # The file that was printed has the section that supervisorctl reads in the main file alone.
    assert "flowherd.conf, which supervisorctl does not read" in plugins
    assert f"ok {sys.executable} (it runs the supervisord with pid {scene.supervisord.process_id}) can" in plugins


def test_an_older_supervisord_in_an_older_python_has_the_plugins_after_one_line(
    scene: Scene, old_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Its supervisord is of version 4.2 and its Python of 3.7, which does not have flowherd."""
    place = tmp_path_factory.mktemp("o")
    program = "[program:flowherd]\ncommand=sleep 1000\nstopwaitsecs=5\nkillasgroup=true\n"
    configuration = MAIN.format(place=place) + program
    socket_of_agent = scene.command.home / "agents" / "worker" / "control.sock"
    with running_supervisord(place, configuration, command=[str(old_python), "-m", "supervisor.supervisord"]) as old:
        assert old.control("version").startswith("4.2")
        ask = ["install", "supervisord", "-n", "worker", "--supervisor-conf", str(old.configuration)]
        commented = scene.command(*ask).stdout
        refused = scene.command(*ask, "--plugins", code=1).stderr
        line = "ln -sT " + refused.partition("ln -sT ")[2].strip()
        assert f"{old_python} (it runs the supervisord with pid {old.process_id}) cannot import them" in refused
        assert line in commented and ";[rpcinterface:flowherd]" in commented
        subprocess.run(["sh", "-c", line], check=True)
        sections = scene.command(*ask, "--plugins").stdout.partition("stdout_logfile=")[2].partition("\n")[2]
        assert "\n[rpcinterface:flowherd]" in sections and f"\nsocket={socket_of_agent}\n" in sections
        old.configuration.write_text(configuration + sections)
        old.control("reload")
        health = wait_until(lambda: found.stdout if (found := old.call_control("flowherd", "health")).stdout else "")
        wait_until(lambda: "limit 8" in old.control("flowherd", "health"), what=health)
        old.control("reload")  # with the plugins loaded
        wait_until(lambda: old.log.count("RPC interface 'flowherd' initialized") == 2, what=lambda: old.log)
        wait_until(old.is_up)
        assert old.control("flowherd", "runs", "--ended") == scene.flowherd("runs", "--ended")

        # What doctor finds in a configuration with faults, and once the module is gone.
        how = ("--supervisor-conf", str(old.configuration))
        found = scene.checks(*how)
        faults = "\n".join(detail for grade, detail in found["supervisord's section"] if grade == "warn")
        assert all(text in faults for text in ("no stdout_logfile", "stopwaitsecs=5", "killasgroup=true"))
        assert [grade for grade, _ in found["supervisord's version"]] == ["ok"]
        link = Path(line.split()[-1])
        link.unlink()
        bad = [detail for grade, detail in scene.checks(*how, code=1)["supervisord's plugins"] if grade == "bad"]
        assert "supervisord does not start again" in bad[0] and "No module named" in bad[0]


def test_a_killed_agent_is_reported_and_found_again(scene: Scene, patient: str) -> None:
    """The last test of the scene: it cancels the run that the others look at."""
    agent = scene.supervisord.pid()
    with scene.supervisord.proxy() as proxy:
        proxy.supervisor.stopProcess("flowherd")
    assert "no agent answers at" in scene.flowherd("health", code=3)
    assert "is it running" in scene.flowherd("runs", code=7)
    with scene.supervisord.proxy() as proxy:
        proxy.supervisor.startProcess("flowherd", False)
    started = wait_until(scene.supervisord.pid)
    assert started != agent
    wait_until(lambda: scene.supervisord.call_control("flowherd", "health").returncode == 0)
    os.kill(started, signal.SIGKILL)
    wait_until(lambda: scene.supervisord.pid() not in (0, started))
    wait_until(lambda: scene.supervisord.call_control("flowherd", "health").returncode == 0)
    assert "patient" in scene.flowherd("runs")
    assert "Cancelling" in scene.flowherd("cancel", patient)
    assert scene.command.wait_for_ends([patient])[patient]["state"] == "Cancelled"


def test_the_printed_listener_logs_what_becomes_of_programs(scene: Scene) -> None:
    """Beside the agent's own program, whose name it must not have."""
    found = wait_until(
        lambda: json.loads(scene.command("explain", "--program", "flowherd", "--json", code=None).stdout or "{}"),
        what=lambda: scene.supervisord.control("status"),
    )
    assert {"running"} <= {each["what"] for each in found["entries"]}
    assert "flowherd-listener" in scene.supervisord.control("status")
