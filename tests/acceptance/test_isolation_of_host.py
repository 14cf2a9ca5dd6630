"""What `doctor` and an agent say of a host that gives isolation, and of one that does not."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import READY, CommandLine, background

#: A host on which nobody has pid namespaces: this limit is that of a user namespace (namespaces(7)).
_WITHOUT = ("unshare", "-Ur", "sh", "-c", 'echo 0 > /proc/sys/user/max_pid_namespaces && exec "$0" "$@"')
_CAN = shutil.which("unshare") and subprocess.run([*_WITHOUT, "true"], capture_output=True, check=False).returncode == 0

pytestmark = [
    pytest.mark.skipif(not _CAN, reason="no user namespace can be made here, to take others away"),
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.slow,
]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[CommandLine]:
    """flowherd on a host without pid namespaces, with a level that its agent's runs are to have."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    settings = {"SERVER__BIND_PORT": "0", "SERVER__TOKEN": "known", "RUNS__ISOLATION__LEVEL": "private"}
    yield CommandLine(home, {f"FLOWHERD__{name}": value for name, value in settings.items()}, _WITHOUT)


def findings(command: CommandLine) -> dict[str, dict[str, str]]:
    done = command("doctor", "--json", code=None)
    checks = json.loads(done.stdout)["checks"]
    return {one["check"]: one for one in checks if one["check"].startswith("isolation")}


def test_an_agent_refuses_to_start_where_its_level_is_not_given_and_doctor_says_why(host: CommandLine) -> None:
    done = host("start", "--max-polls", "1", code=2)
    assert "runs.isolation (private, network host): this host does not give it to this user" in done.stderr
    assert "a pid namespace (" in done.stderr and "`sysctl user.max_pid_namespaces=10000`" in done.stderr
    found = findings(host)
    assert (found["isolation private"]["grade"], found["isolation sealed"]["grade"]) == ("bad", "ok")
    assert "this host allows no more namespaces" in found["isolation private"]["detail"]
    assert "trial-" not in found["isolation private"]["detail"] + done.stderr
    assert 'With if_missing = "weaker", this was tried: spec.json cannot' in found["isolation private"]["detail"]
    assert "runs.isolation does not ask for it" in found["isolation sealed"]["detail"]


def test_with_weaker_it_starts_and_each_run_says_what_it_does_not_have(host: CommandLine) -> None:
    outside = CommandLine(host.home, {**host.env, "FLOWHERD__RUNS__ISOLATION__IF_MISSING": "weaker"})
    with background(CommandLine(host.home, outside.env, host.prefix), "start", until=READY) as agent:
        assert "Runs are kept apart less than runs.isolation asks for (private, network host)" in agent.text()
        outside("register", "says", "--command", "--", "sh", "-c", "echo hello")
        run = outside.run("says")
        outside.wait_for_ends([run])
        begin = "Not kept apart, although private was asked for. Not in force: a pid namespace ("
        # After the agent's own line, which names the process.
        assert outside.lines(run, "flowherd")[1].startswith(begin)
        assert [one["what"] for one in outside.json("explain", run)["timeline"] if one["detail"].startswith(begin)]
