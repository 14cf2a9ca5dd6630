"""Other interpreters: checked before the agent starts, then warmed, and chosen by the rules of the settings."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.errors import ConfigurationError, DeployError
from flowherd.host.processes.fork_server_pool import ForkServers
from flowherd.host.processes.interpreters import ask, program_of
from flowherd.states import RunState
from flowherd.values import Runtime
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The least directory that is a virtual environment to Python: without pip it is made quickly."""
    directory = tmp_path / "environment"
    (directory / "bin").mkdir(parents=True)
    (directory / "bin" / "python").symlink_to(sys.executable)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", directory)
    return directory


def program(directory: Path, script: str) -> str:
    path = directory / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def agent_with(*runtimes: Mapping[str, object], backend: MemoryBackend | None = None) -> LocalAgent:
    settings = load_settings({"runtimes": list(runtimes)})
    return LocalAgent(backend=backend or MemoryBackend(), hostname_label=False, settings=settings)


def test_a_virtual_environment_and_the_python_in_it_are_the_same(environment: Path) -> None:
    inside = str(environment / "bin" / "python")
    assert program_of(str(environment)) == program_of(inside) == inside
    found = ask(str(environment), os.environ, "prefect")
    assert (found.program, found.version[:2], found.has_package) == (inside, sys.version_info[:2], False)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "cannot be started"),
        ("echo 'no such thing' >&2; exit 3", "no such thing"),
        ("exit 0", "does not answer as a Python"),
        ('echo \'{"version": [3, 6, 9], "found": true}\'', "too old"),
        ('echo \'{"version": [2, 7, 18], "found": false}\'', "too old"),
    ],
)
def test_what_cannot_serve_is_refused_with_the_reason(tmp_path: Path, script: str | None, words: str) -> None:
    interpreter = str(tmp_path / "nothing") if script is None else program(tmp_path, script)
    with pytest.raises(DeployError, match=words):
        ask(interpreter, os.environ)


def test_an_agent_does_not_start_with_runtimes_that_cannot_serve_and_names_them_all(environment: Path) -> None:
    backend = MemoryBackend()
    backend.engine = "prefect1"
    agent = agent_with(
        {"name": "gone", "interpreter": "/no/such/python"},
        {"name": "empty", "interpreter": str(environment), "core_version": "1.*"},
        {"name": "twice", "interpreter": str(environment)},
        {"name": "twice", "interpreter": str(environment)},
        backend=backend,
    )
    with pytest.raises(ConfigurationError) as caught:
        agent.start()
    for words in (
        "'gone': /no/such/python cannot be started",
        "'empty': no module named prefect",
        "'twice' is there twice",
    ):
        assert words in str(caught.value)


def test_the_rule_that_serves_a_run_gives_it_a_warm_interpreter_and_its_environment(
    environment: Path, tmp_path: Path
) -> None:
    flows = tmp_path / "flows.py"
    tell = "print(sys.executable, 'csv' in sys.modules, flush=True); os.system('tool')"
    flows.write_text(f"import os, sys\ndef tell(): {tell}")
    tool = environment / "bin" / "tool"
    tool.write_text("#!/bin/sh\necho tool of ${VIRTUAL_ENV:-none}\n")
    tool.chmod(0o755)
    backend = MemoryBackend()
    section = {"name": "own", "interpreter": str(environment), "preload": ["csv"], "labels": ["here"]}
    with going(agent_with(section, backend=backend)) as agent:
        agent.labels += ["here", "elsewhere"]
        wait_until(lambda: len(agent._own_host._surroundings.fork_servers._servers) == 2)
        run_id = backend.add_run({"type": "Python", "ref": f"{flows}:tell"}, labels=["here"])
        assert wait_for_end(backend, run_id) is RunState.SUCCESS
        command = {"type": "Command", "argv": ["tool"]}
        ends = {label: backend.add_run(command, labels=[label]) for label in ("here", "elsewhere")}
        own_path = backend.add_run(command, labels=["here"], run_config={"env": {"PATH": "/usr/bin:/bin"}})
        assert wait_for_end(backend, ends["here"]) is RunState.SUCCESS, "a command has its runtime's programs too"
        for other in (ends["elsewhere"], own_path):  # no runtime serves it; the user's own PATH is stronger
            assert wait_for_end(backend, other) is RunState.FAILED
        assert len(agent._own_host._surroundings.fork_servers._servers) == 2
    assert {f"{environment}/bin/python True", f"tool of {environment}"} <= set(backend.log(run_id))
    assert f"tool of {environment}" in backend.log(ends["here"])


def test_modules_whose_import_ends_the_interpreter_are_imported_by_the_runs(tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text("import os; os._exit(9)")
    servers = ForkServers(tmp_path, {**os.environ, "PYTHONPATH": str(tmp_path)})
    try:
        runtime = Runtime(preload=("deadly",))
        for _ in range(2):
            with pytest.raises(DeployError):
                servers.get(runtime).wait_ready()
        plain = servers.get(runtime)
        assert plain.wait_ready()["preloaded"] == []
        assert servers.get(runtime) is plain
    finally:
        servers.close()


def test_an_interpreter_that_ends_at_once_is_reported_with_its_last_line(tmp_path: Path) -> None:
    servers = ForkServers(tmp_path, os.environ)
    try:
        with pytest.raises(DeployError, match="no licence"):
            servers.get(Runtime(program(tmp_path, "echo 'no licence' >&2; exit 3"))).wait_ready()
    finally:
        servers.close()
