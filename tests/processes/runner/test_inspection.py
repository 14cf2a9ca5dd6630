"""Fork server and runner show nothing of themselves to other processes of their user; the runner is found all the same.

Everything is done as an ordinary user: root may read any process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.runner import ForkServer, Run
from tests.support.unprivileged import AS_NOBODY, NOBODY, needs_root, needs_setpriv, reachable_directory

pytestmark = [needs_root, needs_setpriv]

#: Tries on each of the processes that its arguments name what another process of the same user may usually do. Prints
#: what worked, by pid, and what the agent's side finds.
_TRIES = """
import ctypes, json, os, sys
from pathlib import Path
from flowherd.host.limits import breach
from flowherd.host.processes.flock import is_runner, only_runner, runners_within
from flowherd.host.processes.process_tree import Member, ProcessTree, Usage, exact_usage
from flowherd_runner.contract.identity import process_status
from flowherd_runner.contract.spec import RunLimits

libc = ctypes.CDLL(None, use_errno=True)

def called(result):
    if result < 0:
        raise OSError(ctypes.get_errno())

def ptrace(pid):
    called(libc.ptrace(16, pid, 0, 0))  # PTRACE_ATTACH
    os.waitpid(pid, 0)
    libc.ptrace(17, pid, 0, 0)

TRIES = {
    "environ": lambda pid: open(f"/proc/{pid}/environ", "rb").read(),
    "descriptors": lambda pid: os.readlink(f"/proc/{pid}/fd/0"),
    "working directory": lambda pid: os.readlink(f"/proc/{pid}/cwd"),
    "maps": lambda pid: open(f"/proc/{pid}/maps").read(),
    "memory": lambda pid: open(f"/proc/{pid}/mem", "r+b"),
    "oom_score_adj": lambda pid: open(f"/proc/{pid}/oom_score_adj", "w"),
    "a descriptor of it": lambda pid: called(libc.syscall(438, os.pidfd_open(pid), 0, 0)),  # pidfd_getfd
    "ptrace": ptrace,
}

def worked(pid):
    found = []
    for name, attempt in TRIES.items():
        try:
            attempt(pid)
        except OSError:
            continue
        found.append(name)
    return found

def exceeded(pids):
    members = tuple(Member(pid, process_status(pid)[1]) for pid in pids)
    usage = exact_usage(ProcessTree(usage=Usage(processes=len(pids)), members=members))
    return usage.resident, breach(usage, RunLimits(memory_bytes=1)).detail

directory, other = Path(sys.argv[1]), Path(sys.argv[2])
print(json.dumps({
    "worked": {pid: worked(int(pid)) for pid in sys.argv[3:]},
    "is_runner": [pid for pid in sys.argv[3:] if is_runner(int(pid), directory.name, directory)],
    "only_runner": only_runner(directory),
    "memory": [exceeded(list(map(int, sys.argv[4:]))), exceeded([int(sys.argv[-1])])],
    "runners_within": [runners_within(directory), runners_within(other)],
}))
"""


#: Becomes a program that sees no processes in /proc but those that it may trace.
_HIDES_OTHERS = ("unshare", "-m", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$0" "$@"')
_CAN_HIDE = subprocess.run([*_HIDES_OTHERS, "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with reachable_directory() as directory:
        os.chown(directory, NOBODY, NOBODY)
        yield directory


@pytest.fixture(scope="module")
def nobodys(place: Path) -> Iterator[ForkServer]:
    """A fork server of the user `nobody`, whose runs are that user's too."""
    server = ForkServer(sys.executable, place / "runs", prefix=AS_NOBODY)
    os.chown(place / "runs", NOBODY, NOBODY)
    yield server
    server.close()


def started(server: ForkServer, kind: str, target: dict[str, Any]) -> Run:
    run = server.prepare(kind, target)
    (run.directory / "lock").touch()
    for path in (run.directory, *run.directory.iterdir()):
        os.chown(path, NOBODY, NOBODY)
    server.start(run)
    run.wait_for_line("going")
    return run


def tries(*arguments: object, prefix: Sequence[str] = ()) -> Any:
    """What another process of `nobody` can do."""
    command = [*prefix, *AS_NOBODY, sys.executable, "-c", _TRIES, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nobody_but_root_reads_them_and_the_runner_is_found_by_what_it_shows(nobodys: ForkServer, place: Path) -> None:
    source = place / "flow.py"
    source.write_text("def main():\n    print('going', flush=True)\n    import time\n    time.sleep(300)\n")
    source.chmod(0o644)
    run = started(nobodys, "python", {"ref": f"{source}:main"})
    other = started(nobodys, "command", {"argv": ["sh", "-c", "echo going; exec sleep 300"]})
    flows = [one.started["flow_pid"] for one in (run, other) if one.started is not None]
    pids = [str(pid) for pid in (nobodys.process.pid, run.pid, other.pid, *flows)]
    found = tries(run.directory, place / "elsewhere" / run.directory.name, *pids)
    assert {pid: found["worked"][pid] for pid in pids[:3]} == {pid: [] for pid in pids[:3]}
    # The flows are inspected as ever, by debuggers, profilers and psutil.
    everything = found["worked"][pids[3]]
    assert set(everything) >= {"environ", "descriptors", "memory", "oom_score_adj", "ptrace"}
    assert found["worked"][pids[4]] == everything
    assert found["is_runner"] == [str(run.pid)]
    ours = [run.pid, run.start_ticks]
    assert (found["only_runner"], found["runners_within"]) == (ours, [[ours], []])
    # Of the two runners only the resident set can be read; the flows' share can.
    (of_all, text), (of_flow, exact) = found["memory"]
    assert (of_all, of_flow, "resident set" in exact) == (2, 0, False)
    assert text.endswith("counted with the whole resident set (RSS), because its share cannot be read: 2 processes.")
    for one in (run, other):
        one.stop()
        assert one.wait()["reason"] == "cancelled"


@pytest.mark.skipif(not _CAN_HIDE, reason="/proc cannot be mounted anew here")
def test_where_closed_processes_are_hidden_a_runner_stays_open_and_is_found(place: Path) -> None:
    """hidepid hides what may not be traced, and so it would hide a closed runner from its own agent."""
    server = ForkServer(sys.executable, place / "hidden", prefix=(*_HIDES_OTHERS, *AS_NOBODY))
    try:
        run = started(server, "command", {"argv": ["sh", "-c", "echo going; exec sleep 300"]})
        flow = run.started["flow_pid"] if run.started is not None else 0
        found = tries(run.directory, place / "elsewhere", run.pid, flow, prefix=_HIDES_OTHERS)
        assert (found["is_runner"], found["only_runner"]) == ([str(run.pid)], [run.pid, run.start_ticks])
        run.stop()
        assert run.wait()["reason"] == "cancelled"
    finally:
        server.close()


def test_a_run_is_handed_no_descriptor_of_a_directory(
    start_fork_server: Callable[..., ForkServer], tmp_path: Path
) -> None:
    """Neither of a module that is left out of the preload for that, nor one that was open before."""
    (tmp_path / "sitecustomize.py").write_text("import os\nFD = os.open('/usr', os.O_RDONLY)\n")
    (tmp_path / "keeps_open.py").write_text("import os\nFD = os.open('/etc', os.O_RDONLY)\n")
    server = start_fork_server(preload=["keeps_open"], env={"PYTHONPATH": str(tmp_path)})
    assert "directory /etc" in json.dumps(server.ready["refused"])
    paths = "[f'/proc/self/fd/{fd}' for fd in range(3, 30)]"
    run = server.python(f"import os\ndef main(): print([os.readlink(one) for one in {paths} if os.path.isdir(one)])")
    assert run.wait()["exit_code"] == 0
    assert run.lines("stdout") == ["[]"]
