"""What `flowherd install` prints for a Prefect server and an agent of its pool, run by a real supervisord."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from flowherd.supervisord.rpc import Access, program_state
from tests.peers.environments import PREFECT_3, required_installation
from tests.peers.prefect3.prefect_server import PrefectServer, asked
from tests.support.commands import CommandLine
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_SECRET = "pooled:p$ssword&more"
_START_S = 120.0
_MAIN = """
[supervisord]
logfile={directory}/supervisord.log
pidfile={directory}/supervisord.pid
childlogdir={directory}
[unix_http_server]
file={directory}/s
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""


@contextmanager
def supervisord(directory: Path, *sections: str) -> Iterator[Access]:
    configuration = directory / "supervisord.conf"
    configuration.write_text(_MAIN.format(directory=directory) + "\n".join(sections))
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(configuration)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until((directory / "s").exists, what="supervisord's socket")
        yield Access(url=f"unix://{directory}/s")
    finally:
        process.terminate()
        process.wait(60)


def test_a_server_and_an_agent_that_is_killed_are_what_the_printed_services_make_them(tmp_path: Path) -> None:
    """Both read their secret from a file, and a run that goes on while the agent is dead ends as it should."""
    directory = tmp_path / "s"
    directory.mkdir()
    port, installation = free_port(), required_installation(PREFECT_3)
    server = PrefectServer(tmp_path / "server", {"PREFECT_SERVER_API_AUTH_STRING": _SECRET})
    server.copy_empty_database()
    environment = {**server.environ(), "PREFECT_SERVER_API_HOST": "127.0.0.1", "PREFECT_SERVER_API_PORT": str(port)}
    named = {name: value for name, value in environment.items() if name.startswith(("PREFECT_", "DO_NOT"))}
    file = directory / "server.env"
    file.write_text("".join(f"{name}='{value}'\n" for name, value in named.items()))
    file.chmod(0o600)
    command = CommandLine(directory / "home", {"PREFECT_API_AUTH_STRING": _SECRET})
    api = f"http://127.0.0.1:{port}/api"
    of_server = ("prefect-server", "supervisord", str(installation.directory), "--env-file", str(file))
    of_agent = ("supervisord", "-n", "host-1", "--pool", "machines", "--api", api, "--limit", "2")
    runtime = ("--runtime", f"third={installation.python};core=3.*")
    secret = ("--auth-string-file", str(directory / "secret"), "--write-token-file")
    sections = [command("install", *words).stdout for words in (of_server, (*of_agent, *runtime, *secret))]
    assert all(_SECRET not in section for section in sections)
    with supervisord(directory, *sections) as access, requests.Session() as session:
        session.auth, session.trust_env = ("pooled", _SECRET.partition(":")[2]), False
        assert wait_until(lambda: workers(session, api), timeout_s=_START_S, what=lambda: printed(directory)) == [
            "ONLINE"
        ]
        run_id = a_run(session, api, tmp_path)
        wait_until((tmp_path / "going").exists, timeout_s=_START_S, what=lambda: printed(directory))
        pid = program_state(access, "flowherd").pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: program_state(access, "flowherd").pid not in (0, pid), timeout_s=_START_S)
        (tmp_path / "go").touch()
        wait_until(lambda: "the end" in log(session, api, run_id), timeout_s=_START_S, what=lambda: printed(directory))
        assert log(session, api, run_id).count("the end") == log(session, api, run_id).count("the start") == 1
        wait_until(lambda: not list((directory / "home" / "agents" / "host-1" / "runs").iterdir()), timeout_s=_START_S)


def a_run(session: requests.Session, api: str, directory: Path) -> str:
    script = (
        f"echo the start; touch {directory}/going; while [ ! -e {directory}/go ]; do sleep 0.05; done; echo the end"
    )
    flow = asked(session, "POST", f"{api}/flows/", {"name": "waiting"})
    body = {"name": "it", "flow_id": flow["id"], "work_pool_name": "machines", "entrypoint": "none.py:main"}
    command = {"command": f"sh -c '{script}'"}
    deployment = asked(session, "POST", f"{api}/deployments/", {**body, "job_variables": command})
    of_run = {"state": {"type": "SCHEDULED"}}
    run = asked(session, "POST", f"{api}/deployments/{deployment['id']}/create_flow_run", of_run)
    return str(run["id"])


def workers(session: requests.Session, api: str) -> list[str]:
    try:
        response = session.post(f"{api}/work_pools/machines/workers/filter", json={}, timeout=30)
    except requests.RequestException:
        return []  # not up yet
    return [row["status"] for row in response.json()] if response.ok else []


def log(session: requests.Session, api: str, run_id: str) -> list[str]:
    wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}}
    return [row["message"] for row in asked(session, "POST", f"{api}/logs/filter", wanted)]


def printed(directory: Path) -> str:
    return "\n".join(path.read_text(errors="replace")[-2000:] for path in directory.glob("*.log"))
