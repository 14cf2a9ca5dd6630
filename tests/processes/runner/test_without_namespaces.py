"""What a run that may be weaker has where namespaces are refused: nothing covered can be read or changed.

The fork servers are under a filter of system calls that refuses unshare(2), as a container's may. Each test with a
`place` takes one of the user of the tests, and one of an ordinary user.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowherd_runner.isolation import landlock
from flowherd_runner.isolation.siblings import AllBut, TooManySiblings
from tests.support.runner import ForkServer, Run
from tests.support.unprivileged import AS_NOBODY, NOBODY, needs_root, needs_setpriv, reachable_directory

pytestmark = pytest.mark.skipif(
    landlock.version() < landlock.SCOPED_SINCE, reason="this kernel has not all of Landlock, or it is off"
)

_REFUSING = """
import os, sys
from flowherd_runner import osapi
from flowherd_runner.isolation import seccomp, system_calls
osapi.prctl(system_calls.PR_SET_NO_NEW_PRIVS, 1)
seccomp.apply([seccomp.Refused("unshare")])
os.execvp(sys.argv[1], sys.argv[1:])
"""
#: Starts a program that gets no namespaces.
WITHOUT_NAMESPACES = (sys.executable, "-c", _REFUSING)

FLOW = """
import errno, json, os, sys  # and no more: the interpreter is not for every user

def outcome(step):
    try:
        step()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def read(path):
    with open(path) as file:
        file.read()

def append(path):
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND))

def tried(reads, appends, links):
    found = {"read " + path: outcome(lambda: read(path)) for path in reads}
    found.update(("append " + path, outcome(lambda: append(path))) for path in appends)
    found.update(("link " + old, outcome(lambda: os.link(old, new))) for old, new in links)
    return found

def children(reads):
    # What a program started by the flow can read.
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.dup2(writing, 1)
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
        os.execvp("cat", ["cat", *reads])
    os.close(writing)
    os.wait()
    return os.read(reading, 65536).decode()

def find(reads, appends, links, imports):
    sys.path.insert(0, imports)
    import beside
    print(json.dumps({
        "tried": tried(reads, appends, links),
        "imported": beside.NAME,
        "temporary": outcome(lambda: append(os.environ.get("TMPDIR", "/tmp") + "/made")),
        "child": children(reads),
        "signal": outcome(lambda: os.kill(os.getppid(), 0)),
    }), flush=True)
"""


class Place:
    """A home whose parent has other things too, and a fork server that is refused namespaces."""

    def __init__(self, directory: Path, prefix: tuple[str, ...], owner: int | None = None) -> None:
        self._owner = owner
        self.directory = directory
        self.flow = directory / "project" / "flow.py"
        self.server = ForkServer(sys.executable, directory / "home" / "runs", prefix=prefix, apart=True)
        for name in ("project", "hidden/kept", "listed"):
            (directory / name).mkdir(parents=True)
        files = ("home/token", "hidden/secret", "hidden/kept/tool", "project/data")
        for name in files:
            (directory / name).write_text(f"{name}\n")
        (directory / "project" / "link").symlink_to(directory / "home")
        (directory / "link").symlink_to(directory / "home")
        (directory / "beside.py").write_text("NAME = 'beside'")
        self.flow.write_text(FLOW)

    def run(self, level: str, kind: str, target: dict[str, Any], parameters: dict[str, Any]) -> Run:
        isolation = {
            "level": level,
            "if_missing": "weaker",
            "covered": [str(self.directory / "home")],
            "hide": [str(self.directory / "hidden")],
            "keep": [str(self.flow), str(self.directory / "hidden" / "kept")],
            "write": [str(self.directory / "listed")],
        }
        run = self.server.prepare(kind, target, parameters=parameters, isolation=isolation)
        (run.directory / "lock").touch(mode=0o600)
        if self._owner is not None:
            for path in (self.directory, *self.directory.rglob("*")):
                os.chown(path, self._owner, self._owner, follow_symlinks=False)
        self.server.start(run)
        assert run.wait()["reason"] == "exited", run.describe()
        return run

    def found(self, level: str, reads: list[str], appends: list[str] = [], links: list[str] = []) -> dict[str, Any]:  # noqa: B006
        """Return what such a run could do with paths below the directory, and what its runner says is in force."""
        parameters = {
            "reads": [str(self.directory / path) for path in reads],
            "appends": [str(self.directory / path) for path in appends],
            "links": [(str(self.directory / path), str(self.directory / "listed" / "second")) for path in links],
            "imports": str(self.directory),
        }
        run = self.run(level, "python", {"ref": f"{self.flow}:find"}, parameters)
        assert run.started is not None
        assert len(run.lines("stdout")) == 1, run.describe()
        found = json.loads(run.lines("stdout")[0].replace(f"{self.directory}/", ""))
        return {**found, "in_force": run.started["isolation"]}


@pytest.fixture(scope="module", params=["this user", pytest.param("nobody", marks=[needs_root, needs_setpriv])])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with reachable_directory() as directory:
        directory.chmod(0o755)
        if request.param == "nobody":
            found = Place(directory, (*AS_NOBODY, *WITHOUT_NAMESPACES), NOBODY)
        else:
            found = Place(directory, WITHOUT_NAMESPACES)
        yield found
        found.server.close()


def test_a_private_run_can_neither_read_nor_change_what_is_covered(place: Place) -> None:
    """The rest stays as it is, but for files that are made beside what is covered."""
    reads = ["home/token", "project/link/token", "link/token", "hidden/secret", "hidden/kept/tool", "project/data"]
    appends = ["home/token", "home/new", "new", "project/new", "."]
    found = place.found("private", reads, [*appends[:-1]], ["home/token", "project/data"])
    assert found["tried"] == {
        "read home/token": "EACCES",
        "read project/link/token": "EACCES",
        "read link/token": "EACCES",
        "read hidden/secret": "EACCES",
        "read hidden/kept/tool": "done",
        "read project/data": "done",
        "append home/token": "EACCES",
        "append home/new": "EACCES",
        "append new": "EACCES",
        "append project/new": "done",
        "link home/token": "EXDEV",
        "link project/data": "done",
    }
    assert (found["child"], found["imported"]) == ("hidden/kept/tool\nproject/data\n", "beside")
    assert (found["temporary"], found["signal"]) == ("done", "EPERM")
    in_force = found["in_force"]
    assert (in_force["asked"], in_force["level"]) == ("private", "none")
    assert {"spec.json cannot be opened", "the runner cannot be signalled"} < set(in_force["proved"])
    missing = [one["what"] for one in in_force["missing"]]
    assert missing[:2] == ["a pid namespace", "a /tmp, a /dev/shm and IPC of its own"]
    assert f"the use of new files directly in /tmp, {place.directory}" in missing


def test_a_sealed_run_changes_only_what_is_listed_there(place: Place) -> None:
    (place.directory / "listed" / "second").unlink(missing_ok=True)
    appends = ["listed/new", "home/token", "/usr/new"]
    found = place.found("sealed", ["home/token", "project/data"], appends)
    assert found["tried"] == {
        "read home/token": "EACCES",
        "read project/data": "done",
        "append listed/new": "done",
        "append home/token": "EACCES",
        "append /usr/new": "EACCES",
    }
    assert found["temporary"] == "done"
    assert [text for text in found["in_force"]["proved"] if text.startswith("nothing can be made in /, ")]


def test_a_command_has_its_working_directory_in_the_covered_home(place: Place) -> None:
    script = (
        f"echo kept > file && cat file; cat {place.directory}/home/token; cat ../spec.json; echo > /dev/null && pwd"
    )
    run = place.run("private", "command", {"argv": ["sh", "-c", script]}, {})
    lines = run.lines("stdout")
    assert (lines[0], len(lines), lines[1].startswith(str(run.directory))) == ("kept", 2, True), run.describe()


@needs_root
def test_what_is_covered_cannot_be_read_where_it_is_mounted_a_second_time(tmp_path: Path) -> None:
    """So also through a mount of a directory above it, or of one in it."""
    with reachable_directory() as directory:
        for name in ("above", "part"):
            (tmp_path / name).mkdir()
        binds = 'mount --bind "$0" "$1" && mount --bind "$0/place/hidden/deep" "$2" && shift 2 && exec "$@"'
        mounts = ("unshare", "-m", "sh", "-c", binds, str(directory), str(tmp_path / "above"), str(tmp_path / "part"))
        (directory / "place" / "hidden" / "deep").mkdir(parents=True)
        (directory / "place" / "hidden" / "deep" / "file").touch()
        place = Place(directory / "place", (*mounts, *WITHOUT_NAMESPACES))
        try:
            names = ("above/place/home/token", "above/place/hidden/secret", "part/file", "above/place/project/data")
            reads = [str(tmp_path / name) for name in names]
            found = place.found("private", reads)
            assert list(found["tried"].values()) == ["EACCES", "EACCES", "EACCES", "done"], found
        finally:
            place.server.close()


def test_there_is_an_end_to_the_number_of_rules(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).touch()
    ruleset = landlock.Ruleset(landlock.version(), landlock.READ_FILE, scoped=False)
    rules = AllBut(ruleset, {str(tmp_path / "0"): (0, 0)}, (), {}, most_rules=3)
    try:
        with pytest.raises(TooManySiblings, match="too many files and directories beside it"):
            rules.allow(str(tmp_path), landlock.READ_FILE)
    finally:
        ruleset.close()
