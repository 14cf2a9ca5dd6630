"""The event listener under real supervisords: programs that exit, flap, are killed, and are killed for memory."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import uuid
import xmlrpc.client
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flowherd.programs.entry import LOST, ProgramEntry
from flowherd.programs.program_log import DIRECTORY, read_log
from tests.support.ports import free_port
from tests.support.supervisord import Supervisord, running_supervisord
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow]

MAIN = """
[supervisord]
logfile={place}/supervisord.log
pidfile={place}/supervisord.pid
childlogdir={place}
[eventlistener:flowherd-listener]
command={python} -m flowherd.supervisord.event_listener {place}
events=PROCESS_STATE
buffer_size={buffer_size}
startsecs=0
stderr_logfile={place}/listener.err
"""
SERVERS = """
[unix_http_server]
file={place}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{place}/supervisor.sock
"""
#: With an inet server too, so that the factory is called twice. No agent is needed for the ends of programs.
PLUGIN = """
[inet_http_server]
port=127.0.0.1:{port}
[rpcinterface:flowherd]
supervisor.rpcinterface_factory = flowherd_supervisord:rpc_interface
"""
#: As if supervisord had no HTTP server: the listener cannot ask it anything.
ALONE = 'environment=SUPERVISOR_SERVER_URL=""\n'
#: A shell's script by program; each is run once.
SCRIPTS = {
    "well": "exit 0",
    "broken": "exit 3",
    "segfault": "kill -SEGV $$",
    "killed": "kill -KILL $$",
}
HUNGRY = "echo $$ > {group}/cgroup.procs; exec {python} -c 'x = bytearray(500_000_000)'"


def programs(place: Path, group: Path | None) -> str:
    text = ""
    eat = {} if group is None else {"hungry": HUNGRY.format(group=group, python=sys.executable)}
    for name, script in {**SCRIPTS, **eat}.items():
        # In its cgroup from the start; to its end once all run.
        first, _, last = script.rpartition("; ")
        (place / name).write_text(f"{first}\nwhile [ ! -e {place}/go ]; do sleep 0.05; done\n{last}\n")
        text += f"[program:{name}]\ncommand=sh {place / name}\nstartsecs=0\nautorestart=false\n"
    text += "[program:flap]\ncommand=sh -c 'exit 7'\nstartretries=1\n"
    text += f"[program:nowhere]\ncommand={place}/no\nstartretries=0\n"
    (place / "stay").write_text(f"trap '' TERM; touch {place}/deaf; while :; do sleep 0.1; done\n")
    # One group, because supervisord takes a second to stop each.
    names = ["well", *SCRIPTS, *eat, "flap", "nowhere", "stubborn"]
    text += f"[group:all]\nprograms={','.join(dict.fromkeys(names))}\n"
    return text + f"[program:stubborn]\ncommand=sh {place / 'stay'}\nstartsecs=0\nstopwaitsecs=1\nautostart=false\n"


@dataclass(frozen=True)
class Watched:
    """A supervisord whose programs have ended, with the listener's log."""

    supervisord: Supervisord

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method of supervisord's XML-RPC."""
        with self.supervisord.proxy() as proxy:
            return getattr(proxy, f"supervisor.{method}")(*arguments)

    def entries(self, program: str = "") -> list[ProgramEntry]:
        wanted = (program, f"all:{program}")
        return [each for each in read_log(self.supervisord.place / DIRECTORY) if not program or each.program in wanted]

    def wait_for(self, program: str, what: str) -> ProgramEntry:
        return wait_until(
            lambda: next((each for each in self.entries(program) if each.what == what), None),
            what=lambda: f"{program} {what}: {self.entries()} {(self.supervisord.place / 'listener.err').read_text()}",
        )


@pytest.fixture(scope="module")
def memory_group() -> Iterator[Path | None]:
    """A memory cgroup (v1) of 64 MiB; None if it cannot be made here."""
    group = Path("/sys/fs/cgroup/memory") / f"flowherd-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(64 << 20))
    except OSError:
        group = Path("/nowhere")
    yield group if group.is_dir() else None
    if group.is_dir():
        wait_until(lambda: _removed(group), what="the end of the cgroup")


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return not group.exists()
    return True


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, memory_group: Path | None) -> Iterator[dict[str, Watched]]:
    """Three supervisords at the same time: with flowherd's plugin, without it, and with a listener that cannot ask."""
    kinds = {"plugin": SERVERS + PLUGIN, "plain": SERVERS, "alone": ALONE + SERVERS}
    found = {}
    with ExitStack() as stack:
        for kind, more in kinds.items():
            place = tmp_path_factory.mktemp(kind[:2])
            text = (MAIN + more).format(place=place, python=sys.executable, buffer_size=100, port=free_port())
            text += programs(place, memory_group if kind == "plugin" else None)
            found[kind] = Watched(stack.enter_context(running_supervisord(place, text)))
        for one in found.values():
            for name in SCRIPTS:
                one.wait_for(name, "running")
        if memory_group is not None:
            found["plugin"].wait_for("hungry", "running")
        for one in found.values():
            (one.supervisord.place / "go").touch()
        for kind in ("plugin", "plain"):
            found[kind].call("startProcess", "all:stubborn")
            wait_until((found[kind].supervisord.place / "deaf").exists)
            found[kind].call("stopProcess", "all:stubborn")
        yield found
        for one in found.values():
            os.kill(one.supervisord.process_id, signal.SIGTERM)


@pytest.mark.parametrize("kind", ["plugin", "plain"])
@pytest.mark.parametrize(
    ("program", "what", "reason", "code", "signal_name"),
    [
        ("well", "exited", "exited", 0, None),
        ("broken", "exited", "exited", 3, None),
        ("segfault", "exited", "signal", None, "SIGSEGV"),
        ("flap", "backoff", "exited", 7, None),
        ("flap", "fatal", "given_up", None, None),
        ("stubborn", "stopped", "stopped", None, "SIGKILL"),
    ],
)
def test_an_end_is_logged_with_its_cause(
    watched: dict[str, Watched], kind: str, program: str, what: str, reason: str, code: int | None, signal_name: str
) -> None:
    """With the plugin from supervisord itself, without it from supervisord's log."""
    found = watched[kind].wait_for(program, what)
    assert (found.reason, found.grade, found.exit_code, found.signal) == (reason, "proven", code, signal_name)
    assert found.is_bad is (program in ("broken", "segfault", "flap"))
    if program == "stubborn":
        assert "stopwaitsecs" in found.evidence
    if kind == "plugin" and what == "exited":
        assert found.started is not None and found.started < found.at
        times = [each.at for each in watched[kind].entries(program)]
        assert times == sorted(times)


def test_a_kill_for_memory_is_proven_by_the_programs_own_cgroup(
    watched: dict[str, Watched], memory_group: Path | None
) -> None:
    if memory_group is None:
        pytest.skip("no memory cgroup can be made here")
    found = watched["plugin"].wait_for("hungry", "exited")
    assert (found.reason, found.grade, found.signal) == ("oom_killer", "proven", "SIGKILL")
    assert f"{memory_group.name}/memory.oom_control rose by 1" in found.evidence


def test_a_program_that_cannot_be_started_says_why(watched: dict[str, Watched]) -> None:
    found = watched["plugin"].wait_for("nowhere", "backoff")
    assert (found.reason, found.pid) == ("not_started", None)
    assert "can't find command" in found.message
    assert watched["plain"].wait_for("nowhere", "backoff").reason is None


def test_without_an_answer_of_supervisord_no_more_is_said_than_is_known(watched: dict[str, Watched]) -> None:
    found = watched["alone"].wait_for("segfault", "exited")
    assert (found.reason, found.grade, found.signal, found.exit_code) == (None, None, None, None)
    assert "not known" in found.message and found.is_bad
    assert not watched["alone"].wait_for("well", "exited").is_bad


def test_a_kill_of_the_listener_loses_nothing_that_supervisord_still_has(watched: dict[str, Watched]) -> None:
    one = watched["plain"]
    os.kill(one.call("getProcessInfo", "flowherd-listener:flowherd-listener")["pid"], signal.SIGKILL)
    before = len(one.entries("broken"))
    with contextlib.suppress(xmlrpc.client.Fault):  # what supervisord answers if it has seen the end already
        one.call("startProcess", "all:broken", False)
    wait_until(lambda: len(one.entries("broken")) == before + 2, what="start and end of the program are logged")
    assert one.entries("broken")[-1].exit_code == 3
    assert [each for each in one.entries() if each.what == LOST] == []


def test_a_listener_that_hangs_holds_up_nobody_and_what_it_missed_is_counted(tmp_path: Path) -> None:
    place = tmp_path / "s"
    place.mkdir()
    text = (MAIN + SERVERS).format(place=place, python=sys.executable, buffer_size=4)
    text += "[program:short]\ncommand=sh -c 'exit 0'\nstartsecs=0\nautorestart=false\n"
    with running_supervisord(place, text) as supervisord:
        one = Watched(supervisord)
        one.wait_for("short", "exited")
        listener = one.call("getProcessInfo", "flowherd-listener:flowherd-listener")["pid"]
        os.kill(listener, signal.SIGSTOP)
        for _ in range(4):
            one.call("startProcess", "short", False)
            wait_until(lambda: one.call("getProcessInfo", "short")["statename"] == "EXITED")
        os.kill(listener, signal.SIGCONT)
        lost = one.wait_for("", LOST)
        # Twelve events: one was on its way to the listener, and supervisord has kept four.
        assert lost.count == 7
        assert "7 events of supervisord are missing here." in lost.message
