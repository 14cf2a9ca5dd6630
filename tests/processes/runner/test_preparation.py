"""From the spec to the user's first line: environment, directory, user, limits, parameters, and errors."""

from __future__ import annotations

import json
import os
import pwd
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.runner import ForkServer

PRINT_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


def not_started(server: ForkServer, kind: str, target: dict[str, Any], **spec: Any) -> str:
    """The evidence of a run whose code was never reached."""
    run = server.start(server.prepare(kind, target, **spec))
    record = run.wait()
    assert (record["reason"], record["grade"], record["exit_code"]) == ("not_started", "proven", 72), record
    assert run.lines() == []
    return str(record["evidence"])


def test_the_environment_is_the_fork_servers_the_specs_and_flowherds_variables(fork_server: ForkServer) -> None:
    env = {"A": "1", "PATH": os.environ["PATH"]}
    run = fork_server.command(sys.executable, "-c", PRINT_ENVIRONMENT, env=env, parameters={"p": [1], "q": "x"})
    run.wait()
    found = json.loads(run.lines()[0])
    assert found["HOME"] == os.environ["HOME"]
    assert found["A"] == "1"
    assert found["FLOWHERD_FLOW_RUN_ID"] == run.spec["flow_run_id"]
    assert (found["FLOWHERD_FLOW_RUN_NAME"], found["FLOWHERD_FLOW_NAME"]) == ("a-run", "a flow")
    assert json.loads(found["FLOWHERD_PARAMETERS"]) == {"p": [1], "q": "x"}
    assert (found["FLOWHERD_PARAM_p"], found["FLOWHERD_PARAM_q"]) == ("[1]", "x")
    assert found["PYTHONUNBUFFERED"] == "1"


def test_secrets_and_files_of_variables_are_read_when_the_run_starts_and_are_nowhere_else(
    start_fork_server: Callable[..., ForkServer], tmp_path: Path
) -> None:
    server = start_fork_server(env={"AGENTS_VALUE": "from-the-agents-environment"})
    (tmp_path / "password").write_text("first-password\n")
    (tmp_path / "env").write_text("GREETING=hello\nA=of the file\nFILE_TOKEN=token-of-the-file\n")
    spec = {
        "env": {"A": "of the spec", "B": "of the spec"},
        "env_files": [str(tmp_path / "env")],
        "secrets": {"B": f"file:{tmp_path}/password", "C": "env:AGENTS_VALUE"},
    }
    run = server.prepare(
        "command", {"argv": ["sh", "-c", "echo $GREETING; echo $A; echo ${#B} $B $C $FILE_TOKEN"]}, **spec
    )
    (tmp_path / "password").write_text("second-password\n")  # after the spec was written
    server.start(run).wait()
    assert run.lines("stdout") == ["hello", "of the spec", "15 *** *** ***"]
    assert run.lines("flowherd")[0].endswith(": B, C, FILE_TOKEN")
    for path in run.directory.iterdir():
        content = path.read_bytes() if path.is_file() else b""
        assert b"-password" not in content and b"token-of" not in content, path


@pytest.mark.parametrize(
    ("spec", "evidence"),
    [
        ({"secrets": {"DB": "env:NOT_THERE"}}, "the secret DB is read from the variable NOT_THERE, which"),
        ({"secrets": {"DB": "file:/not/there"}}, "the secret DB cannot be read from the file /not/there: No such file"),
        ({"env_files": ["/not/there"]}, "the variables cannot be read from the file /not/there: No such file"),
        ({"env_files": ["/etc/passwd"]}, "line 1 of the file /etc/passwd is not of the form NAME=VALUE"),
    ],
)
def test_a_secret_or_file_that_is_missing_is_named(fork_server: ForkServer, spec: Any, evidence: str) -> None:
    assert not_started(fork_server, "command", {"argv": ["true"]}, **spec).startswith(evidence)


def test_a_callable_and_its_children_see_the_runs_environment(fork_server: ForkServer) -> None:
    code = "import os, subprocess\ndef main():\n    print(os.environ['A'])\n    subprocess.run(['sh', '-c', 'echo $A'])"
    run = fork_server.python(code, env={"A": "1"})
    run.wait()
    assert run.lines() == ["1", "1"]


def test_a_parameter_too_large_for_an_environment_still_reaches_the_callable(fork_server: ForkServer) -> None:
    code = "import os\ndef main(x): print(len(x), 'FLOWHERD_PARAM_x' in os.environ, os.system('true'))"
    run = fork_server.python(code, parameters={"x": "y" * 200_000})
    run.wait()
    assert run.lines("stdout") == ["200000 False 0"]
    assert len([line for line in run.lines("flowherd") if "cannot be carried by an environment" in line]) == 2


def test_without_a_working_directory_the_run_has_a_fresh_one(fork_server: ForkServer) -> None:
    run = fork_server.command("pwd")
    run.wait()
    assert run.lines() == [str(run.directory / "work")]
    assert (run.directory / "work").stat().st_mode & 0o777 == 0o700


def test_a_working_directory_is_used_as_it_is(fork_server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\npwd; touch made; umask\n")
    (tmp_path / "tool").chmod(0o755)
    run = fork_server.command("./tool", working_dir=str(tmp_path))
    run.wait()
    umask = os.umask(0o022)
    os.umask(umask)
    assert run.lines() == [str(tmp_path), f"{umask:04o}"]
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_command_is_found_on_the_runs_own_path(fork_server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "only-here").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "only-here").chmod(0o755)
    run = fork_server.command("only-here", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    run.wait()
    assert run.lines() == ["found"]


def test_import_paths_serve_commands_and_callables(fork_server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("NAME = 'helper'\n")
    run = fork_server.command(sys.executable, "-c", "import helper; print(helper.NAME)", import_paths=[str(tmp_path)])
    run.wait()
    assert run.lines() == ["helper"]
    run = fork_server.python("import helper\ndef main(): print(helper.NAME)", import_paths=[str(tmp_path)])
    run.wait()
    assert run.lines() == ["helper"]


def test_pythonpath_of_the_run_serves_callables(fork_server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "helper2.py").write_text("NAME = 'helper2'\n")
    run = fork_server.python("import helper2\ndef main(): print(helper2.NAME)", env={"PYTHONPATH": str(tmp_path)})
    run.wait()
    assert run.lines() == ["helper2"]


def test_a_module_is_found_in_the_working_directory(fork_server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "flows.py").write_text(
        "import sys\nclass Flow:\n    @staticmethod\n    def run(a, b=2): print(a, b, sys.argv, __name__)\n"
    )
    target = {"ref": "pack.flows:Flow.run"}
    run = fork_server.start(fork_server.prepare("python", target, working_dir=str(tmp_path), parameters={"a": None}))
    run.wait()
    assert run.lines() == ["None 2 ['-c'] pack.flows"]


def test_a_file_is_found_from_the_working_directory_and_finds_its_neighbours(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "neighbour.py").write_text("def double(x): return 2 * x\n")
    (tmp_path / "flows" / "my_flow.py").write_text("""
import multiprocessing, neighbour, pickle
def square(x): return neighbour.double(x) * x
def main(n):
    assert pickle.loads(pickle.dumps(square)) is square
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(square, range(n)), __name__)
""")
    target = {"ref": "flows/my_flow.py:main"}
    run = fork_server.start(fork_server.prepare("python", target, working_dir=str(tmp_path), parameters={"n": 3}))
    assert run.wait()["exit_code"] == 0, run.describe()
    assert run.lines() == ["[0, 2, 8] my_flow"]


def test_a_wrong_parameter_raises_in_the_callable(fork_server: ForkServer) -> None:
    record = fork_server.python("def main(a): pass", parameters={"b": 1}).wait()
    assert record["reason"] == "exception"
    assert "unexpected keyword argument 'b'" in record["exception"]["message"]


def test_signals_have_their_default_actions(fork_server: ForkServer) -> None:
    code = "print(open('/proc/self/status').read())"
    commands = fork_server.command("cat", "/proc/self/status")
    commands.wait()
    masks = [line.split()[1] for line in commands.lines() if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
    assert masks == ["0" * 16] * 3
    callables = fork_server.python(
        f"import signal\ndef main():\n    {code}\n    print(signal.getsignal(2), signal.getsignal(13))"
    )
    callables.wait()
    assert "SigBlk:\t0000000000000000" in callables.lines()
    assert "default_int_handler" in callables.lines()[-1]
    assert callables.lines()[-1].endswith("Handlers.SIG_IGN") or callables.lines()[-1].endswith(" 1")


def test_limits_hold_in_the_run(fork_server: ForkServer) -> None:
    run = fork_server.command("sh", "-c", "ulimit -n; ulimit -t", limits={"open_files": 64, "cpu_time_s": 7})
    run.wait()
    assert run.lines() == ["64", "7"]


def test_a_limit_that_cannot_be_set_keeps_the_run_from_its_start(fork_server: ForkServer) -> None:
    evidence = not_started(fork_server, "command", {"argv": ["true"]}, limits={"open_files": 2**60})
    assert "open files" in evidence


@pytest.mark.parametrize(
    ("kind", "target", "spec", "evidence"),
    [
        ("command", {"argv": ["no-such-program"]}, {}, "no such program: no-such-program"),
        ("command", {"argv": ["/etc/passwd"]}, {}, "cannot start /etc/passwd: Permission denied"),
        ("command", {"argv": ["a\0b"]}, {}, "cannot start"),
        ("command", {"argv": []}, {}, "not a list of arguments"),
        ("command", {}, {}, "not a list of arguments"),
        ("command", {"argv": ["true", "x" * 200_000]}, {}, "too large"),
        ("command", {"argv": ["true"]}, {"working_dir": "/no/such"}, "working directory /no/such does not exist"),
        ("command", {"argv": ["true"]}, {"working_dir": "/etc/passwd"}, "cannot be entered"),
        ("command", {"argv": ["true"]}, {"user": "no-such-user"}, "there is no user no-such-user"),
        ("python", {"ref": "no_such_module_here:main"}, {}, "no module named no_such_module_here"),
        ("python", {"ref": "os.path:no_such"}, {}, "os.path has no no_such"),
        ("python", {"ref": "os.path:sep"}, {}, "os.path:sep is not callable"),
        ("python", {"ref": "nowhere.py:main"}, {}, "no such file: "),
        ("python", {"ref": "main"}, {}, "not of the form module:function"),
        ("python", {}, {}, "not of the form module:function"),
        ("prefect", {}, {}, "cannot import Prefect: No module named 'prefect'"),
        ("unknown", {}, {}, "not known here, only command, prefect, prefect3, prefect3-command, prefect3-hooks"),
    ],
)  # fmt: skip
def test_code_that_cannot_be_reached_is_recorded_with_the_reason(
    fork_server: ForkServer, kind: str, target: dict[str, Any], spec: dict[str, Any], evidence: str
) -> None:
    assert evidence in not_started(fork_server, kind, target, **spec)


def test_a_script_whose_interpreter_is_missing_is_recorded_as_such(fork_server: ForkServer, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    assert "the interpreter that its first line names" in not_started(fork_server, "command", {"argv": [str(script)]})


# Another user.


@pytest.fixture
def nobody() -> pwd.struct_passwd:
    if os.geteuid() != 0:
        pytest.skip("only root can change to another user")
    return pwd.getpwnam("nobody")


def test_a_command_runs_as_another_user_in_every_respect(fork_server: ForkServer, nobody: pwd.struct_passwd) -> None:
    code = "id -u; id -g; id -G; echo $USER $HOME; touch made; ls -n made | cut -d' ' -f3; echo ready; sleep 100"
    run = fork_server.command("sh", "-c", code, user="nobody")
    run.wait_for_line("ready")
    uid, gid = str(nobody.pw_uid), str(nobody.pw_gid)
    groups = " ".join(map(str, os.getgrouplist("nobody", nobody.pw_gid)))
    assert run.lines() == [uid, gid, groups, f"nobody {nobody.pw_dir}", uid, "ready"]
    run.stop()
    assert run.wait()["reason"] == "cancelled"


def test_a_callable_runs_as_another_user(fork_server: ForkServer, nobody: pwd.struct_passwd) -> None:
    code = """
import logging, os
def main():
    print(os.getuid(), os.geteuid(), len(os.listdir("/proc/self/fd")) > 3)
    logging.info("logged")
    open("made", "w").close()
"""
    source = fork_server.runs_directory / "user_flow.py"
    source.write_text(code)
    outer = [fork_server.runs_directory, *fork_server.runs_directory.parents]
    if not all(path.stat().st_mode & 0o001 for path in outer):
        run = fork_server.start(fork_server.prepare("python", {"ref": "os:getuid"}, user="nobody"))
        assert run.wait()["exit_code"] == 0
        return
    run = fork_server.start(fork_server.prepare("python", {"ref": f"{source}:main"}, user="nobody"))
    assert run.wait()["exit_code"] == 0, run.describe()
    assert run.lines() == [f"{nobody.pw_uid} {nobody.pw_uid} True", "logged"]
    assert (run.directory / "work" / "made").stat().st_uid == nobody.pw_uid


def test_a_user_cannot_enter_what_is_closed_to_it(
    fork_server: ForkServer, nobody: pwd.struct_passwd, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    evidence = not_started(fork_server, "command", {"argv": ["true"]}, user="nobody", working_dir=str(closed))
    assert "cannot be entered" in evidence


def test_limits_of_this_process_are_left_alone() -> None:
    """The tests above set limits in forks only."""
    assert resource.getrlimit(resource.RLIMIT_CPU)[0] == resource.RLIM_INFINITY
