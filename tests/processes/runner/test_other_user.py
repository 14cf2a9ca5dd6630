"""A run as another user: the environment of a login, and a working directory that its user reaches by its path."""

from __future__ import annotations

import os
import pwd
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowherd.config.settings import USER_ENV
from flowherd.engines.base import AgentDefaults
from flowherd.engines.plan import plan
from flowherd.host.store.run_directory import RunDirectory
from flowherd.states import RunState
from flowherd.values import Flow, FlowRun
from flowherd_runner.contract.spec import RunSpec
from flowherd_runner.other_user import login_environment
from tests.support.runner import ForkServer, fork_servers

ACCOUNT = pwd.struct_passwd(("jo", "x", 1234, 1234, "", "/home/jo", "/bin/zsh"))
AGENTS_VARIABLES = {
    "LC_TIME": "C",
    "A_TOKEN": "for-root-only",
    "https_proxy": "http://me:for-root-only@proxy:1",
    "http_proxy": "http://proxy:1",
}


@pytest.fixture
def nobody() -> pwd.struct_passwd:
    if os.geteuid() != 0:
        pytest.skip("only root can change to another user")
    return pwd.getpwnam("nobody")


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that everybody can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o711)
        yield place


@pytest.fixture
def fork_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    for name, value in AGENTS_VARIABLES.items():
        monkeypatch.setenv(name, value)
    yield from fork_servers(sys.executable, tmp_path / "runs", spares=1)


def as_nobody(place: Path) -> dict[str, object]:
    return {"user": "nobody", "user_env": list(USER_ENV), "own_dir": str(place / "work" / str(uuid.uuid4()))}


def test_a_commands_working_directory_is_reached_by_its_path_and_is_private(
    fork_server: ForkServer, nobody: pwd.struct_passwd, open_place: Path
) -> None:
    spec = as_nobody(open_place)
    script = "echo hello > made; cat $PWD/made; env | cut -d= -f1; tr '\\0' ' ' < /proc/self/environ"
    run = fork_server.command("sh", "-c", script, env={"MINE": "1"}, **spec)
    assert run.wait()["exit_code"] == 0, run.describe()
    lines = run.lines("stdout")
    assert lines[0] == "hello"
    assert {"LC_TIME", "http_proxy", "MINE", "HOME", "USER", "LOGNAME", "SHELL", "PATH"} <= set(lines)
    assert "for-root-only" not in "".join(lines)
    made = Path(str(spec["own_dir"]))
    assert (made.stat().st_uid, stat.S_IMODE(made.stat().st_mode)) == (nobody.pw_uid, 0o700)
    assert (made.parent.stat().st_uid, stat.S_IMODE(made.parent.stat().st_mode)) == (0, 0o711)


def test_a_callable_has_nothing_of_the_agents_environment_in_its_memory(
    fork_server: ForkServer, nobody: pwd.struct_passwd, open_place: Path
) -> None:
    source = open_place / "flow.py"
    source.write_text(
        "import os\n"
        "def main():\n"
        "    open('made', 'w').write('hello')\n"
        "    print(open(os.path.abspath('made')).read())\n"
        "    print(sorted(os.environ))\n"
        "    print([one for one in open('/proc/self/environ').read().split(chr(0)) if one])\n"
        "    os.execv('/bin/sh', ['sh', '-c', 'env'])\n"
    )
    source.chmod(0o644)
    run = fork_server.start(fork_server.prepare("python", {"ref": f"{source}:main"}, **as_nobody(open_place)))
    assert run.wait()["exit_code"] == 0, run.describe()
    text = "\n".join(run.lines("stdout"))
    assert text.startswith("hello\n")
    assert "for-root-only" not in text
    assert f"FLOWHERD_FLOW_RUN_ID={run.directory.name}" in text
    assert "\nUSER=nobody\n" in text


def test_common_modules_can_be_imported_though_the_library_is_closed_to_the_user(
    fork_server: ForkServer, nobody: pwd.struct_passwd, open_place: Path
) -> None:
    """Where it is not closed, as in /usr, nothing is said."""
    source = open_place / "flow.py"
    source.write_text("import os, subprocess, sqlite3\ndef main(): print(os.access(os.path.dirname(os.__file__), 5))\n")
    source.chmod(0o644)
    run = fork_server.start(fork_server.prepare("python", {"ref": f"{source}:main"}, **as_nobody(open_place)))
    assert run.wait()["exit_code"] == 0, run.describe()
    said = any("user nobody may not read" in line for line in run.lines("flowherd"))
    assert run.lines("stdout") == [str(not said)]


@pytest.mark.parametrize("base", ["link", "others may write"])
def test_a_place_that_somebody_else_controls_is_not_used(
    fork_server: ForkServer, nobody: pwd.struct_passwd, open_place: Path, base: str
) -> None:
    if base == "link":
        (open_place / "elsewhere").mkdir()
        (open_place / "work").symlink_to("elsewhere")
    else:
        (open_place / "work").mkdir()
        (open_place / "work").chmod(0o777)
    run = fork_server.command("pwd", **as_nobody(open_place))
    assert run.wait()["exit_code"] == 0
    assert run.lines("stdout") == [str(run.directory / "work")]


def test_the_environment_of_a_login() -> None:
    base = {**AGENTS_VARIABLES, "HOME": "/root", "SHELL": "/bin/sh", "PATH": "/root/bin:/bin", "TZ": "UTC"}
    assert login_environment(base, ACCOUNT, USER_ENV) == {
        "HOME": "/home/jo",
        "USER": "jo",
        "LOGNAME": "jo",
        "SHELL": "/bin/zsh",
        "PATH": "/root/bin:/bin",
        "TZ": "UTC",
        "LC_TIME": "C",
        "http_proxy": "http://proxy:1",
    }
    assert login_environment(base, ACCOUNT, [])["PATH"] == "/usr/local/bin:/usr/bin:/bin"
    assert "A_TOKEN" in login_environment(base, ACCOUNT, ["A_*"])


def test_only_a_run_as_another_user_without_a_working_directory_gets_one_outside() -> None:
    def planned(**config: object) -> RunSpec:
        flow = Flow(id="f", name="f", storage={"type": "Command", "argv": ["true"]})
        run = FlowRun(
            id=str(uuid.uuid4()),
            name="r",
            version=1,
            state=RunState.SCHEDULED,
            serialized_state={},
            flow=flow,
            run_config={"type": "LocalRun", **config},
        )
        return plan(run, AgentDefaults(users_work_dir="/w", user_env=("TZ",)), "")

    spec = planned(user="jo")
    assert spec.own_dir == f"/w/{spec.flow_run_id}-{spec.agent.attempt}"
    assert spec.user_env == ("TZ",)
    assert planned().own_dir is None
    assert planned(user="jo", working_dir="/srv").own_dir is None


def test_the_directory_outside_is_removed_with_the_runs(tmp_path: Path) -> None:
    run_id = str(uuid.uuid4())
    work = tmp_path / "work"
    work.mkdir(mode=0o711)
    ours, others = work / f"{run_id}-abc", work / str(uuid.uuid4())
    for place in (ours, others):
        (place / "deep").mkdir(parents=True)
    for named in (ours, others):
        directory = RunDirectory(tmp_path / run_id, run_id)
        os.close(directory.create(RunSpec(flow_run_id=run_id, own_dir=str(named))))
        directory.remove()
        assert not directory.path.exists()
    assert not ours.exists()
    assert others.exists()
