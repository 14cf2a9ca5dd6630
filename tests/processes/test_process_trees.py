"""The processes of a run are found by the kernel's lists of children as by a pass over all processes."""

from __future__ import annotations

import operator
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowherd.host.processes.process_tree import ProcessTree, TreeReader, look
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

#: A sub-reaper with children of every sort; prints their pids, then starts and ends children as it is asked.
FAMILY = """
import ctypes, os, subprocess, sys, threading, time

libc = ctypes.CDLL(None)
libc.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def tell(name, pid):
    os.write(1, f"{name} {pid}\\n".encode())  # at once, because several processes write


def sleeper():
    return subprocess.Popen(["sleep", "1000"])


def child(work):
    pid = os.fork()
    if pid == 0:
        work()
        time.sleep(1000)
        os._exit(0)
    return pid


def double_fork():
    os.setsid()
    tell("session", child(lambda: None))
    os._exit(0)


def main_thread_ends():
    def go_on():
        tell("below_zombie", sleeper().pid)
        time.sleep(1000)
    threading.Thread(target=go_on).start()
    libc.pthread_exit(None)


os.waitpid(child(double_fork), 0)
tell("zombie", child(main_thread_ends))
tell("plain", child(lambda: tell("grandchild", sleeper().pid)))
let_thread_end = threading.Event()


def of_thread():
    tell("of_thread", sleeper().pid)
    let_thread_end.wait()


thread = threading.Thread(target=of_thread)
thread.start()
for line in sys.stdin:
    if line == "end thread\\n":
        let_thread_end.set()
        thread.join()
    elif line == "start\\n":
        tell("later", sleeper().pid)
    tell("done", 0)
"""


class Family:
    """The running program, and the pids that it has printed."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pids: dict[str, int] = {}
        self.read_until("session", "zombie", "below_zombie", "plain", "grandchild", "of_thread")

    def read_until(self, *names: str) -> None:
        assert self.process.stdout is not None
        while not all(name in self.pids for name in names):
            name, pid = self.process.stdout.readline().split()
            self.pids[name] = int(pid)

    def ask(self, line: str) -> None:
        assert self.process.stdin is not None
        self.pids.pop("done", None)
        self.process.stdin.write(f"{line}\n")
        self.read_until("done")

    def close(self) -> None:
        for pid in self.pids.values():
            if pid:
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def family(no_process_left: None) -> Iterator[Family]:
    family = Family()
    yield family
    family.close()


def pids(tree: ProcessTree) -> set[int]:
    return {member.pid for member in tree.members}


@pytest.mark.parametrize("lists_children", [True, False])
def test_all_descendants_are_found(family: Family, lists_children: bool) -> None:
    reader = TreeReader(lists_children=lists_children)

    def found() -> ProcessTree:
        return reader.look({"run": family.process.pid})["run"]

    assert pids(found()) == set(family.pids.values())
    assert found().usage.processes == len(family.pids)
    # Its list of children moves to a living thread of the process.
    family.ask("end thread")
    assert family.pids["of_thread"] in pids(found())
    family.ask("start")
    assert family.pids["later"] in pids(found())
    os.kill(family.pids["later"], signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{family.pids['later']}/exe").exists())
    handles = found().processes
    assert family.pids["later"] not in [process.pid for process in handles if process.status() != "zombie"]


def test_both_ways_measure_the_same(family: Family) -> None:
    runners = {"run": family.process.pid, "gone": 2**22 + 1}

    def measured() -> tuple[int, int]:
        """Return the memory by both ways: it changes until each process runs its program."""
        reader = TreeReader(lists_children=True)
        by_lists, by_pass = (found["run"].usage.memory_bytes for found in (reader.look(runners), look(runners)))
        return by_lists, by_pass

    wait_until(lambda: abs(1 - operator.truediv(*measured())) < 0.05, what=lambda: f"the same memory in {measured()}")
    by_lists, by_pass = TreeReader(lists_children=True).look(runners), look(runners)
    assert by_lists["gone"] == by_pass["gone"] == ProcessTree(usage=by_pass["gone"].usage)
    assert by_lists["run"].usage.cpu_time_s == pytest.approx(by_pass["run"].usage.cpu_time_s, abs=0.2)
    handles = {process.pid: process for process in by_pass["run"].processes}
    of_others = sum(process.memory_info().rss for pid, process in handles.items() if pid != family.pids["zombie"])
    # Its first thread has ended, and the process still has its memory.
    assert by_pass["run"].usage.memory_bytes > of_others + 2**20


def test_a_sleeping_run_is_looked_at_again_when_one_of_its_processes_has_run() -> None:
    script = "sh -c 'read line; sleep 1000 & echo $!; read line'; true"
    reader = TreeReader(lists_children=True)
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:

        def tree() -> ProcessTree:
            return reader.look({"run": shell.pid})["run"]

        assert shell.stdin is not None and shell.stdout is not None
        wait_until(lambda: tree().members and tree() is tree(), what="a look that is not repeated")
        shell.stdin.write("\n")
        shell.stdin.flush()
        started = int(shell.stdout.readline())
        found = pids(tree())
        os.kill(started, signal.SIGKILL)
        shell.stdin.close()
    assert started in found


def _tree_after_rest(reader: TreeReader, runners: dict[str, int]) -> dict[str, ProcessTree] | None:
    """Return the trees of runs that have slept for thirty looks in a row."""
    before = reader.look(runners)
    after = [reader.look(runners) for _ in range(30)][-1]
    slept = all(tree.members and after[run_id] is tree for run_id, tree in before.items())
    return after if slept else None


def test_a_run_that_has_slept_for_long_is_read_at_every_fourth_look_unless_it_is_watched_closely() -> None:
    script = "sh -c 'read line; sleep 1000 & echo $!; read line'; true"
    reader = TreeReader(lists_children=True)
    with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        runners = {f"run-{number}": shell.pid for number in range(4)}
        assert shell.stdin is not None and shell.stdout is not None
        before = wait_until(lambda: _tree_after_rest(reader, runners), what="thirty looks at sleeping runs")
        shell.stdin.write("\n")
        shell.stdin.flush()
        started = int(shell.stdout.readline())
        at_once = reader.look(runners, closely={"run-1"})
        looks = [reader.look(runners) for _ in range(3)]
        os.kill(started, signal.SIGKILL)
        shell.stdin.close()
    seen = {run_id: started in pids(tree) for run_id, tree in at_once.items()}
    assert seen["run-1"]
    assert 1 <= sum(seen.values()) <= 2
    assert all(started in pids(tree) for tree in looks[-1].values())
    assert any(at_once[run_id] is before[run_id] for run_id in runners)
