"""What a run is forked from: a fork server without shared state, with today's files, and with the run's environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from loguru import logger

from flowherd import LocalAgent
from flowherd.agent import agent_log
from flowherd.backends.memory import MemoryBackend
from flowherd.cli.doctor.check_fork_servers import check_fork_servers
from flowherd.config import load_settings
from flowherd.config.records import Logging
from flowherd.host.processes import fork_server_pool, set_aside
from flowherd.states import RunState
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

#: What an interpreter makes of the variables that it reads at its start.
LOOK = """
import json, os, sys, warnings, locale
def main():
    flags = {name: getattr(sys.flags, name) for name in dir(sys.flags) if name.islower() and name[0] != "_"}
    for name in ("count", "index", "n_fields", "n_sequence_fields", "n_unnamed_fields", "safe_path"):
        flags.pop(name, None)
    print(json.dumps({
        "flags": flags, "hash": hash("flowherd") if os.environ.get("PYTHONHASHSEED") else 0,
        "names": sys.getfilesystemencoding(), "locale": locale.getpreferredencoding(False),
        "filters": [kind[0] for kind in warnings.filters], "output": sys.stdout.encoding,
        "written_through": sys.stdout.write_through, "digits": getattr(sys, "get_int_max_str_digits", int)(),
        "allocator": b"MALLOC_ARENA_MAX=1" in open("/proc/self/environ", "rb").read().split(b"\\0"),
    }, sort_keys=True))
"""


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of modules to preload, beside the flows of LOOK."""
    (tmp_path / "looking.py").write_text(LOOK)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@contextmanager
def agent_of(backend: MemoryBackend, *preload: str, **options: object) -> Iterator[LocalAgent]:
    settings = load_settings({"agent.preload": list(preload)})
    with going(LocalAgent(backend=backend, hostname_label=False, settings=settings, **options)) as agent:
        yield agent


def run_of(backend: MemoryBackend, ref: str, **config: object) -> list[str]:
    """Run a function; return its log once it has ended well."""
    run_id = backend.add_run({"type": "Python", "ref": ref}, run_config={"type": "LocalRun", **config})
    assert wait_for_end(backend, run_id) is RunState.SUCCESS, backend.log(run_id)
    wait_until(lambda: any("Success" in line or "exited" in line for line in backend.log(run_id)))
    return backend.log(run_id)


@pytest.fixture
def agents_log(capfd: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """Standard error with the agent's log, whatever earlier tests have done to its sinks."""
    agent_log.configure("INFO", Logging())
    yield capfd
    logger.configure(handlers=[], extra={}, patcher=lambda record: None)


def test_what_is_not_preloaded_is_named_once_by_the_agent_and_in_the_log_of_each_run(
    backend: MemoryBackend, libraries: Path, agents_log: pytest.CaptureFixture[str]
) -> None:
    (libraries / "connected.py").write_text("import socket\nONE, OTHER = socket.socketpair()")
    (libraries / "flows.py").write_text("import connected\ndef main(): print(connected.ONE.fileno() > 2)")
    said = "connected is not preloaded, because its import leaves what runs would share: socket to another socket"
    with agent_of(backend, "connected"):
        logs = [run_of(backend, f"{libraries}/flows.py:main") for _ in range(2)]
    assert [("True" in log, sum(said in line for line in log)) for log in logs] == [(True, 1)] * 2
    assert agents_log.readouterr().err.count(said) == 1


def test_a_changed_module_reaches_the_next_run_and_running_runs_go_on(
    backend: MemoryBackend, libraries: Path, agents_log: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_aside, "_GRACE_S", 0.0)
    module = libraries / "versioned.py"
    module.write_text("VALUE = 1")
    (libraries / "flows.py").write_text(
        "import os, sys, time, versioned\n"
        "def main(): print('version', versioned.VALUE)\n"
        f"def long():\n    open('{libraries}/begun', 'w').close()\n"
        f"    while not os.path.exists('{libraries}/go'): time.sleep(0.01)\n    main()\n"
    )
    with agent_of(backend, "versioned") as agent:
        long = backend.add_run({"type": "Python", "ref": f"{libraries}/flows.py:long"})
        wait_until((libraries / "begun").exists)
        (first,) = agent._own_host._surroundings.fork_servers._servers.values()
        module.write_text("VALUE = 22")
        assert "version 22" in run_of(backend, f"{libraries}/flows.py:main")
        assert agents_log.readouterr().err.count(f"{module} has changed") == 1
        wait_until(lambda: not first.alive, what="the end of the first fork server")
        (libraries / "go").touch()
        assert wait_for_end(backend, long) is RunState.SUCCESS
        assert "version 1" in backend.log(long)
        module.write_text("raise ValueError('half written')")
        failed = backend.add_run({"type": "Python", "ref": f"{libraries}/flows.py:main"})
        assert wait_for_end(backend, failed) is RunState.FAILED
        assert "half written" in backend.message(failed)
        module.write_text("VALUE = 4")
        assert "version 4" in run_of(backend, f"{libraries}/flows.py:main")


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONHASHSEED": "1", "PYTHONOPTIMIZE": "2", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "latin-1"},
        {"PYTHONWARNINGS": "error::UserWarning", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONDEVMODE": "1", "PYTHONMALLOC": "malloc", "PYTHONINTMAXSTRDIGITS": "700", "MALLOC_ARENA_MAX": "1"},
    ],
    ids=lambda env: next(iter(env)),
)
def test_variables_that_are_read_at_a_start_take_effect(
    backend: MemoryBackend, libraries: Path, monkeypatch: pytest.MonkeyPatch, env: dict[str, str]
) -> None:
    for name in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.delenv(name, raising=False)
    with agent_of(backend, "csv") as agent:
        plain = run_of(backend, f"{libraries}/looking.py:main")
        log = run_of(backend, f"{libraries}/looking.py:main", env=env)
        assert len(agent._own_host._surroundings.fork_servers._servers) == 2
    names = ", ".join(sorted(env))
    assert f"Started in a fork server of its own environment ({names})." in log
    assert not any("of its own environment" in line for line in plain)
    assert seen(log) == in_an_interpreter(libraries, env)


def in_an_interpreter(libraries: Path, env: dict[str, str]) -> dict[str, object]:
    command = [sys.executable, "-c", "import looking; looking.main()"]
    done = subprocess.run(command, env={**os.environ, **env}, cwd=libraries, capture_output=True, check=True)
    return {**json.loads(done.stdout), **({} if "PYTHONIOENCODING" in env else {"output": "utf-8"})}


def seen(log: list[str]) -> dict[str, object]:
    return json.loads(next(line for line in log if line.startswith("{")))


def test_the_agents_own_variables_make_one_fork_server_of_all(backend: MemoryBackend, libraries: Path) -> None:
    with agent_of(backend, "csv", env_vars={"PYTHONHASHSEED": "1", "OTHER": "2"}) as agent:
        log = run_of(backend, f"{libraries}/looking.py:main")
        assert len(agent._own_host._surroundings.fork_servers._servers) == 1
    assert seen(log)["hash"] == in_an_interpreter(libraries, {"PYTHONHASHSEED": "1"})["hash"]
    assert not any("of its own environment" in line for line in log)


def test_fork_servers_of_particular_environments_are_few_and_end_when_unused(
    backend: MemoryBackend, libraries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_aside, "_GRACE_S", 0.0)
    monkeypatch.setattr(fork_server_pool, "MAX_OWN_ENVIRONMENTS", 2)
    with agent_of(backend) as agent:
        servers = agent._own_host._surroundings.fork_servers
        for seed in range(4):
            run_of(backend, f"{libraries}/looking.py:main", env={"PYTHONHASHSEED": str(seed)})
        kept = sorted(dict(runtime.environment).get("PYTHONHASHSEED", "") for runtime in servers._servers)
        assert kept == ["", "2", "3"]
        wait_until(lambda: not servers._set_aside.servers)
        monkeypatch.setattr(fork_server_pool, "OWN_ENVIRONMENT_IDLE_S", 0.0)
        wait_until(lambda: [runtime.environment for runtime in servers._servers] == [()])


def test_doctor_names_what_is_not_preloaded(libraries: Path) -> None:
    (libraries / "connected.py").write_text("import socket\nONE, OTHER = socket.socketpair()")
    (found,) = check_fork_servers(load_settings({"agent.preload": ["connected"]}))
    assert found.grade == "warn"
    assert "connected is not preloaded" in found.detail and "socket to another socket of a pair" in found.detail
