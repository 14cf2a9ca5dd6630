"""No run in the warm fork sees anything of another one, and each sees what it would see alone.

A run writes down everything around itself, some thousands of names, and all of it is compared.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.environments import PREFECT_3, required_installation
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.peers.prefect3.warm_fork import Prefect3EngineRun, WarmFork, running_warm_fork
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Seen = dict[str, str]

PROGRAMS = Path(__file__).with_name("programs")
#: A variable of all runs that the agent knows before the first one; the fork server imports Prefect with it.
KEY = {"PREFECT_API_KEY": "key of all"}
#: One arena of Python's allocator, which may be returned and taken again.
GROWTH_KB = 1024

#: Some of what the untidy run changes, to prove that the comparison sees it.
SPOILED = {
    *("at exit", "builtins", "collector", "connections", "context", "cwd", "decimal", "descriptors", "environ"),
    *("faulthandler", "limits", "locale", "logger ", "logger of.a.run", "logger prefect", "logging", "nice"),
    *("of a run", "own loop", "settings", "signals", "signals blocked", "socket timeout", "start method"),
    *("sys.argv", "sys.excepthook", "sys.getrecursionlimit", "sys.getswitchinterval", "sys.meta_path", "sys.modules"),
    *("sys.path", "temporary directory", "threads", "threads' hook", "timer", "umask", "warnings", "zone"),
    "prefect._internal.concurrency.services._active_services",
    "prefect._internal.concurrency.threads._global_loop",
    "prefect.context.GLOBAL_SETTINGS_CONTEXT",
    "prefect.events.related.RESOURCE_CACHE",
    "prefect.results._default_storages",
}
#: The library's cache of addresses: a request that a busy server makes Prefect repeat can add some.
_ADDRESSES = "prefect.runner.storage.urlsplit"
#: Differs in the fork: modules that are imported beforehand, and one TLS context for all clients.
OF_THE_FORK_SERVER = {"environ", "sys.modules", "prefect.client.orchestration.ssl"}
#: Differs under a runner: records go to the journal and not to Prefect's sender and its threads, two signals end a run,
#: and the streams are new.
OF_THE_RUNNER = {
    *("at exit", "connections", "descriptors", "main", "signals", "sys.argv", "sys.streams", "threads"),
    "prefect._internal.concurrency.services._QueueServiceBase._instances",
    "prefect._internal.concurrency.services._active_services",
    "prefect._internal.concurrency.threads._active_instances",
    "prefect._internal.concurrency.threads._global_loop",
    "prefect.logging.handlers.APILogHandler.prepare",
    "prefect.logging.handlers.PrefectConsoleHandler.emit",
    "prefect.logging.handlers._api_log_sink",
}


@pytest.fixture(scope="module")
def fork(prefect: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmFork]:
    directory = tmp_path_factory.mktemp("leaks")
    known = {"PREFECT_API_URL": prefect.api, "HOME": str(directory / "run-home"), **KEY}
    with running_warm_fork(prefect, directory, "leaks", "surroundings.py", **known) as fork:
        yield fork


def look(fork: WarmFork) -> Seen:
    """Return what a run sees."""
    run = fork.start("looking_around", env=KEY)
    return seen_by(run)


def seen_by(run: Prefect3EngineRun) -> Seen:
    assert run.end()["exit_code"] == 0, run.process.describe()
    return seen_in(run)


def seen_in(run: Prefect3EngineRun) -> Seen:
    seen: Seen = json.loads(Path(run.process.spec["env"]["HOME"], f"look-{run.id}").read_text())
    return seen


def differences(one: Seen, other: Seen) -> dict[str, tuple[str | None, str | None]]:
    names = sorted({*one, *other} - {_ADDRESSES})
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}


def by_prefect_itself(fork: WarmFork) -> Seen:
    """Return what a run sees under `python -m prefect.engine`, in the directory that the pull steps lead to."""
    run = fork.prepare("looking_around", env=KEY)
    variables = {"PREFECT__FLOW_ENTRYPOINT": "surroundings.py:looking_around", "DO_NOT_TRACK": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [required_installation(PREFECT_3).python, "-m", "prefect.engine"],
        cwd=PROGRAMS,
        env={**kept, **variables, **run.process.spec["env"]},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return seen_in(run)


def test_a_run_finds_nothing_of_another_at_the_same_time_or_before_it(fork: WarmFork, tmp_path: Path) -> None:
    before = look(fork)
    assert len(before) > 5000
    home, meeting = tmp_path / "home", tmp_path / "meeting"
    home.mkdir()
    untidy = fork.start("dirtying", env={**KEY, "HOME": str(home)}, parameters={"meeting": str(meeting)})
    untidy.process.wait_for_line("dirty", 60)
    during = look(fork)
    meeting.touch()
    untidy.end()
    after = look(fork)
    assert SPOILED - set(differences(before, seen_in(untidy))) == set()
    assert (differences(before, during), differences(before, after)) == ({}, {})


def test_a_run_finds_what_it_would_find_had_it_been_started_by_prefect(fork: WarmFork, tmp_path: Path) -> None:
    warm = look(fork)
    with fork.threaded_fork_server(tmp_path) as fork_server:
        run = fork.prepare("looking_around", env=KEY)
        fork_server.start(run.process)
        by_exec = seen_by(run)
    fresh = by_prefect_itself(fork)
    # That fork server has a path for the sitecustomize.py that starts a thread.
    assert names_of_both(warm, by_exec) - OF_THE_FORK_SERVER == {"sys.path"}
    assert names_of_both(warm, fresh) - OF_THE_FORK_SERVER - OF_THE_RUNNER == set()
    assert modules(fresh) <= modules(warm)
    for name in ("settings", "cwd", "umask", "limits", "sys.path", "sys.flags", "warnings", "loop policy", "context"):
        assert warm[name] == fresh[name], name


def names_of_both(one: Seen, other: Seen) -> set[str]:
    """Return the names that both have with different values, except caches of what was looked up on the way."""
    found = {name: pair for name, pair in differences(one, other).items() if None not in pair}
    return {name for name, (text, _) in found.items() if " caches " not in str(text)}


def modules(seen: Seen) -> set[str]:
    return set(ast.literal_eval(seen["sys.modules"]))


def test_runs_at_once_draw_nothing_alike_and_share_no_socket_or_pipe(fork: WarmFork, tmp_path: Path) -> None:
    runs = [fork.start("drawing", parameters={"meeting": str(tmp_path / "meeting")}) for _ in range(3)]
    drawn = [words_of(run) for run in runs]
    (tmp_path / "meeting").touch()
    for run in runs:
        assert run.end()["exit_code"] == 0, run.process.describe()
    for name in drawn[0]["drawn"]:
        assert len({one["drawn"][name] for one in drawn}) == len(runs), name
    shared = [path for one in drawn for path in one["shared"]]
    assert len(set(shared)) == sum(len(set(one["shared"])) for one in drawn)
    assert not set(shared) & set(descriptors(fork.fork_server.ready["pid"]))


def words_of(run: Prefect3EngineRun) -> dict[str, Any]:
    def lines() -> list[str]:
        return [line for line in run.process.lines("stdout") if line.startswith("DRAWN ")]

    (line,) = wait_until(lines, timeout_s=60, what=run.process.describe)
    words: dict[str, Any] = json.loads(line[6:])
    return words


def test_the_fork_server_is_after_many_runs_what_it_was(fork: WarmFork, tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.touch()

    def some_runs() -> None:
        runs = [fork.start("drawing", parameters={"meeting": str(meeting)}) for _ in range(4)]
        for run in runs:
            assert run.end()["exit_code"] == 0, run.process.describe()
        wait_until(lambda: not children(pid), what=lambda: f"children {children(pid)}")

    pid = fork.fork_server.ready["pid"]
    some_runs()
    before, data_kb = (status(pid, "Threads"), descriptors(pid)), status(pid, "VmData")
    for _ in range(4):
        some_runs()
    assert (status(pid, "Threads"), descriptors(pid)) == before == (1, before[1])
    assert status(pid, "VmData") - data_kb <= GROWTH_KB


def status(pid: int, name: str) -> int:
    """Read a line of /proc/PID/status; memory is in kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def descriptors(pid: int) -> list[str]:
    return sorted(str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir())


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()
