"""Runs in a pid namespace of their own: ends, leftovers and what the runner records are as without one, and certain."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowherd_runner.contract.identity import process_status
from flowherd_runner.contract.spec import without_agent_keys
from tests.support.runner import THREAD_AT_START, ForkServer, Run, interpreters
from tests.support.unprivileged import AS_NOBODY, NOBODY, needs_root, needs_setpriv, reachable_directory
from tests.support.waiting import wait_until

ISOLATION = {"level": "private"}

#: Starts a process with an empty environment and a session of its own, which is nobody's child.
DAEMON = """
import os, time
def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve("/bin/sleep", ["daemon", "100"], {})
        os._exit(0)
    os.wait()
"""


def _shared_server(user: str) -> Iterator[ForkServer]:
    with reachable_directory() as directory:
        runs = directory / "runs"
        runs.mkdir()
        runs.chmod(0o777)
        prefix = AS_NOBODY if user == "nobody" else ()
        server = ForkServer(sys.executable, runs, prefix=prefix, spares_wanted=1, apart=True)
        yield server
        server.close()


@pytest.fixture(scope="module", params=["this user", pytest.param("nobody", marks=[needs_root, needs_setpriv])])
def server(request: pytest.FixtureRequest) -> Iterator[ForkServer]:
    """A fork server of that user, which keeps a spare for runs with a level of isolation."""
    yield from _shared_server(request.param)


def start(server: ForkServer, kind: str, target: dict[str, object], *keep: str) -> Run:
    run = server.prepare(kind, target, isolation={**ISOLATION, "keep": keep})
    if server.prefix:
        (run.directory / "lock").touch(mode=0o600)
        for path in (run.directory, *run.directory.iterdir()):
            os.chown(path, NOBODY, NOBODY)
    return server.start(run)


def command(server: ForkServer, *argv: str) -> Run:
    return start(server, "command", {"argv": list(argv)})


def python(server: ForkServer, code: str) -> Run:
    source = server.runs_directory / f"flow{server._requests}.py"
    source.write_text(code)
    source.chmod(0o644)
    return start(server, "python", {"ref": f"{source}:main"}, str(source))


def found(run: Run) -> dict[str, Any]:
    wait_until(lambda: run.started is not None, what=run.describe)
    assert run.started is not None
    return dict(run.started["isolation"], flow_pid=run.started["flow_pid"])


def gone(pid: int) -> bool:
    status = process_status(pid)
    return status is None or status[2] in "ZX"


def named(name: str) -> list[int]:
    """Return the pids of living processes of that name."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if content(pid, "comm") == f"{name}\n".encode() and not gone(pid)]


def is_daemon(pid: int) -> bool:
    return b"daemon" in content(pid, "cmdline")


def content(pid: int, name: str) -> bytes:
    """Return a file of /proc/PID; nothing of it when the process, of any other test, has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_a_flow_is_alone_with_a_small_init_process_that_it_cannot_look_into(server: ForkServer) -> None:
    run = python(server, "import os, time\ndef main():\n print(os.getpid(), os.getppid())\n time.sleep(100)")
    run.wait_for_line("2 0")
    isolation = found(run)
    init, flow = isolation["init_pid"], isolation["flow_pid"]
    status = process_status(flow), process_status(init)
    assert [one and one[0] for one in status] == [run.pid, run.pid]
    assert isolation["asked"] == "private"
    resident_pages = int(Path(f"/proc/{init}/statm").read_text().split()[1])
    assert resident_pages * os.sysconf("SC_PAGE_SIZE") < 512 * 1024
    assert Path(f"/proc/{init}/comm").read_text() == "flowherd-init\n"
    # The kernel gives the files of a process that is not dumpable to root.
    assert Path(f"/proc/{init}/environ").stat().st_uid == 0
    assert list(Path(f"/proc/{init}/fd").iterdir()) == [Path(f"/proc/{init}/fd/0")]
    run.write_stop()
    (run.directory / "stop.json").chmod(0o644)
    os.kill(run.pid, signal.SIGTERM)
    record = run.wait()
    # A process that were pid 1 would not end by a signal for which it has no handler.
    assert (record["reason"], record["signal"], record["killed_at"]) == ("cancelled", signal.SIGTERM, None)
    assert gone(init)


def test_what_outlives_the_flow_process_is_named_and_ended_with_the_namespace(server: ForkServer) -> None:
    run = python(server, DAEMON + "def main():\n daemon()\n daemon()\n raise SystemExit(7)")
    record = run.wait()
    assert (record["reason"], record["exit_code"]) == ("exited", 7)
    assert [one["name"] for one in record["leftovers"]] == ["sleep", "sleep"]
    assert record["survivors"] == []
    assert all(gone(one["pid"]) for one in record["leftovers"])
    assert gone(found(run)["init_pid"])


def test_a_run_that_leaves_nothing_ends_without_a_search(server: ForkServer) -> None:
    run = command(server, "sh", "-c", "sleep 0.01 & exit 3")
    record = run.wait()
    assert (record["exit_code"], record["leftovers"], record["searched"]) == (3, [], False)
    assert gone(found(run)["init_pid"])


def test_a_child_that_a_flow_gives_to_its_runner_is_not_overlooked(server: ForkServer) -> None:
    clone_parent = 0x8000
    code = (
        "import ctypes, os\ndef main():\n"
        f" if ctypes.CDLL(None).syscall(56, {clone_parent | signal.SIGCHLD}, 0, 0, 0, 0) == 0:\n"
        "  os.execve('/bin/sleep', ['given', '100'], {})\n"
    )
    if os.uname().machine != "x86_64":
        pytest.skip("the number of clone(2) is that of x86_64")
    record = python(server, code).wait()
    assert [one["name"] for one in record["leftovers"]] == ["sleep"]


def test_nothing_lives_on_when_the_runner_is_killed(server: ForkServer) -> None:
    run = python(server, DAEMON + "def main():\n daemon()\n print('away', flush=True)\n time.sleep(100)")
    run.wait_for_line("away")
    isolation = found(run)
    daemons = wait_until(lambda: [pid for pid in named("sleep") if is_daemon(pid)], what="the daemon")
    os.kill(run.pid, signal.SIGKILL)
    wait_until(lambda: all(map(gone, [isolation["flow_pid"], *daemons])), what="the end of the namespace")


def test_a_runner_that_is_forked_or_executed_gives_its_run_a_namespace_too(
    start_fork_server: Callable[..., ForkServer], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(THREAD_AT_START)
    forked, executed = (start_fork_server(apart=True), start_fork_server(apart=True, env={"PYTHONPATH": str(tmp_path)}))
    for server in (forked, executed):
        run = python(server, "import os\ndef main(): print(os.getpid(), os.getppid())")
        run.wait()
        assert run.lines("stdout") == ["2 0"]
        assert gone(found(run)["init_pid"])


@pytest.mark.parametrize("interpreter", [one for one in interpreters() if "/3.7" in one])
def test_without_posix_spawn_the_init_process_is_a_fork(
    interpreter: str, start_fork_server: Callable[..., ForkServer]
) -> None:
    run = python(start_fork_server(interpreter, apart=True), DAEMON + "def main():\n print(os.getpid())\n daemon()")
    record = run.wait()
    assert run.lines("stdout") == ["2"]
    assert [one["name"] for one in record["leftovers"]] == ["sleep"]
    assert gone(found(run)["init_pid"])


def test_a_spare_is_only_given_to_a_run_of_its_sort(start_fork_server: Callable[..., ForkServer]) -> None:
    server = start_fork_server(apart=True, spares_wanted=1)
    spare = server.wait_for_spare()
    plain = server.prepare("command", {"argv": ["true"]})
    server.ask(plain, apart=False)
    plain.wait()
    assert plain.pid != spare
    assert plain.started is not None
    assert "isolation" not in plain.started
    run = command(server, "true")
    run.wait()
    assert run.pid == spare


def test_a_run_with_a_level_is_not_started_without_a_namespace(fork_server: ForkServer) -> None:
    record = command(fork_server, "true").wait()
    assert record["reason"] == "not_started"


def test_a_flow_process_does_not_get_what_only_the_agent_needs() -> None:
    assert without_agent_keys(b'{"contract": 1, "agent": {"claim": "token"}}') == b'{"contract": 1}'
