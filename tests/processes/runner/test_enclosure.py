"""What a run with a level of isolation finds: mounts, files that it can change, capabilities, calls, and its network.

Each test takes a run as the user of the tests, and one of an ordinary user.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowherd_runner import PACKAGE_DIRECTORY
from tests.support.runner import ForkServer, Run
from tests.support.unprivileged import AS_NOBODY, NOBODY, needs_root, needs_setpriv, reachable_directory

#: Functions for the flows of these tests, each of which prints what it has found as one object.
FLOW = """
import ctypes, errno, json, os, socket

def outcome(step):
    try:
        step()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def writes(places):
    def make(path):
        os.close(os.open(os.path.join(path, "made"), os.O_CREAT | os.O_WRONLY))
    return {path: outcome(lambda path=path: make(path)) for path in places}

def call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def status():
    with open("/proc/self/status") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}

def unshared(flags):
    pid = os.fork()
    if pid == 0:
        result = outcome(lambda: call("unshare", flags))
        os._exit(0 if result == "done" else getattr(errno, result))
    code = os.waitpid(pid, 0)[1] >> 8
    return errno.errorcode[code] if code else "done"

def find(places, paths, network=False):
    found = status()
    print(json.dumps({
        "writes": writes(places),
        "lists": {path: sorted(os.listdir(path)) if os.path.isdir(path) else None for path in paths},
        "directory": os.getcwd(),
        "variables": {name: os.environ.get(name) for name in ("TMPDIR", "XDG_RUNTIME_DIR")},
        "capabilities": int(found["CapPrm"], 16),
        "no_new_privs": found["NoNewPrivs"],
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "root_of_init": outcome(lambda: os.listdir("/proc/1/root/.")),
        "user_namespace": unshared(0x10000000),
        "cgroup_namespace": unshared(0x12000000),
        "inet": outcome(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 9))),
        "vsock": outcome(lambda: socket.socket(40, socket.SOCK_STREAM).close()),
        "abstract": outcome(lambda: socket.socket(socket.AF_UNIX).connect(b"\\0flowherd-test")),
    }), flush=True)
"""


class Place:
    """A fork server of one user, and directories that its runs are to see or not to see."""

    def __init__(self, directory: Path, prefix: tuple[str, ...], owner: int | None = None) -> None:
        self._owner = owner
        self.directory = directory
        self.flow = directory / "flow" / "flow.py"
        self.server = ForkServer(sys.executable, directory / "home" / "runs", prefix=prefix, apart=True)
        for name in ("flow", "hidden/kept", "data", "listed"):
            (directory / name).mkdir(parents=True)
        (directory / "hidden" / "secret").write_text("secret")
        (directory / "hidden" / "kept" / "tool").touch()
        self.flow.write_text(FLOW)
        self.own()

    def own(self) -> None:
        if self._owner is not None:
            for path in (self.directory, *self.directory.rglob("*")):
                os.chown(path, self._owner, self._owner, follow_symlinks=False)

    def start(self, level: str, places: list[str], paths: list[str], **isolation: object) -> Run:
        """Start a run that tries to write in `places` and lists `paths`."""
        working_dir = isolation.pop("working_dir", None)
        given: dict[str, Any] = {
            "level": level,
            "covered": [str(self.directory / "home")],
            "hide": [str(self.directory / "hidden")],
            "keep": [str(self.flow)],
            **isolation,
        }
        run = self.server.prepare(
            "python",
            {"ref": f"{self.flow}:find"},
            parameters={"places": places, "paths": paths},
            isolation=given,
            working_dir=working_dir,
        )
        (run.directory / "lock").touch(mode=0o600)
        self.own()
        return self.server.start(run)

    def found(self, level: str, places: list[str], paths: list[str], **isolation: object) -> dict[str, Any]:
        """Return what such a run has printed, and what its runner says is in force."""
        run = self.start(level, places, paths, **isolation)
        record = run.wait()
        assert record["reason"] == "exited", run.describe()
        assert run.started is not None
        assert len(run.lines("stdout")) == 1, run.describe()
        return {**json.loads(run.lines("stdout")[0]), "in_force": run.started["isolation"]}

    def refusal(self, level: str, **isolation: object) -> str:
        """Return why such a run was not started."""
        record = self.start(level, [], [], **isolation).wait()
        assert record["reason"] == "not_started"
        return str(record["evidence"])


@pytest.fixture(scope="module", params=["this user", pytest.param("nobody", marks=[needs_root, needs_setpriv])])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Directories below /tmp, which a run has of its own."""
    with reachable_directory() as directory:
        directory.chmod(0o755)
        found = Place(directory, AS_NOBODY, NOBODY) if request.param == "nobody" else Place(directory, ())
        yield found
        found.server.close()


def test_a_private_run_sees_nothing_that_is_covered_and_has_places_of_its_own(place: Place) -> None:
    hidden, kept = place.directory / "hidden", place.directory / "hidden" / "kept"
    paths = [str(one) for one in (hidden, kept, place.directory / "home", place.directory / "data", "/tmp", "/dev/shm")]
    found = place.found(
        "private", ["/tmp", "/var/tmp", "/dev/shm", "/sys/fs/cgroup"], paths, keep=[str(place.flow), str(kept)]
    )
    own = found["variables"]["XDG_RUNTIME_DIR"]
    assert found["lists"] == {
        str(hidden): ["kept"],
        str(kept): ["tool"],
        str(place.directory / "home"): ["runs"],
        str(place.directory / "data"): None,
        "/tmp": sorted([Path(own).name, place.directory.name, "made"]),
        "/dev/shm": ["made"],
    }
    assert found["writes"] == {"/tmp": "done", "/var/tmp": "done", "/dev/shm": "done", "/sys/fs/cgroup": "EROFS"}
    assert found["processes"][:2] == [1, 2]
    assert found["root_of_init"] == "EACCES"
    assert (found["user_namespace"], found["cgroup_namespace"]) == ("done", "EPERM")
    assert found["no_new_privs"] == "1"
    assert found["capabilities"] == (0 if place.server.prefix or os.geteuid() else 0x405FB)
    assert not Path("/var/tmp/made").exists()
    assert (found["in_force"]["level"], found["in_force"]["missing"]) == ("private", [])
    assert "spec.json cannot be opened" in found["in_force"]["proved"]


def test_a_sealed_run_changes_nothing_but_its_directories_and_the_write_list(place: Place) -> None:
    listed, data = place.directory / "listed", place.directory / "data"
    home = str(Path.home()) if not place.server.prefix else "/"
    places = [".", "/tmp", "/dev/shm", str(listed), str(data), home, "/usr"]
    found = place.found("sealed", places, [], write=[str(listed)], keep=[str(place.flow), str(data)], network="none")
    wrong = {name: outcome for name, outcome in found["writes"].items() if outcome == "done"}
    assert set(wrong) == {".", "/tmp", "/dev/shm", str(listed)}
    assert found["writes"][str(data)] == "EROFS"
    assert (listed / "made").exists()
    assert (found["capabilities"], found["user_namespace"]) == (0, "EPERM")
    assert (found["inet"], found["vsock"], found["in_force"]["network"]) == ("ENETUNREACH", "EAFNOSUPPORT", "none")
    assert (found["in_force"]["level"], found["in_force"]["missing"]) == ("sealed", [])


def test_the_code_of_the_next_runner_cannot_be_changed_from_the_directory_around_it(place: Place) -> None:
    """As an agent's virtual environment often lies in the working directory of its flows."""
    if place.server.prefix:
        pytest.skip("this user's code is not another user's to change")
    around = Path(PACKAGE_DIRECTORY).parent
    made = [around / "made", around / "flowherd_runner" / "made"]
    try:
        found = place.found("sealed", [".", "flowherd_runner"], [], working_dir=str(around))
        assert found["writes"] == {".": "done", "flowherd_runner": "EROFS"}
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def test_no_list_opens_the_control_groups_of_the_host(place: Place) -> None:
    groups = "/sys/fs/cgroup"
    shm = Path(f"/dev/shm/of-run-{os.getpid()}")
    shm.mkdir()
    try:
        found = place.found("sealed", [groups, "/dev/shm"], [], write=["/sys", groups, str(shm)])
        assert found["writes"] == {groups: "EROFS", "/dev/shm": "done"}
        missing = [one["what"] for one in found["in_force"]["missing"]]
        assert missing == ["writing to /sys", f"writing to {groups}"]
        assert place.found("sealed", ["."], [], working_dir=groups)["writes"] == {".": "EROFS"}
    finally:
        shm.rmdir()
        Path(groups, "made").unlink(missing_ok=True)


def test_a_directory_of_the_flow_is_writable_only_without_a_floor_or_on_the_list(place: Place) -> None:
    data = str(place.directory / "data")
    assert place.found("sealed", ["."], [], working_dir=data)["writes"] == {".": "done"}
    assert place.found("sealed", ["."], [], working_dir=data, floor="sealed")["writes"] == {".": "EROFS"}
    found = place.found("sealed", ["."], [], working_dir=data, floor="sealed", write=[data])
    assert (found["writes"], found["directory"]) == ({".": "done"}, data)


def test_a_path_to_hide_that_is_not_there_is_named(place: Place) -> None:
    absent = str(place.directory / "absent")
    in_force = place.found("private", [], [], hide=[absent])["in_force"]
    assert (in_force["level"], in_force["missing"]) == (
        "private",
        [{"what": f"hiding {absent}", "why": "it does not exist"}],
    )


@needs_root
def test_a_path_that_has_become_a_link_since_the_run_was_planned_is_not_writable(place: Place) -> None:
    """Another run that may write beside it could have put the link there, also between two looks at the path."""
    with tempfile.TemporaryDirectory(dir="/srv") as name:
        outside = Path(name)
        os.chown(outside, *2 * (NOBODY if place.server.prefix else 0,))
        link, listed = place.directory / "listed" / f"link-{outside.name}", str(place.directory / "listed")
        link.symlink_to(outside)
        found = place.found("sealed", [name, str(link)], [], write=[listed, str(link)], floor="sealed")
        assert found["writes"] == {name: "EROFS", str(link): "EROFS"}
        assert not list(outside.iterdir())
        missing = [f"writing to {link} (it has become a link, to {name})"]
        assert ["{what} ({why})".format(**one) for one in found["in_force"]["missing"]] == missing


@pytest.mark.parametrize("level", ["private", "sealed"])
def test_directories_above_what_is_covered_stay_where_they_are(place: Place, level: str) -> None:
    """A run that had renamed one could put its own at flowherd's path, and the next run would see what was covered."""
    if level == "private" and not place.server.prefix and os.geteuid() == 0:
        pytest.skip("root can change what runs outside at this level")
    project = place.directory / f"project-{level}"
    home = project / "var" / "lib" / "home"
    home.mkdir(parents=True)
    script = "mv var/lib var/moved; mv var moved; touch var/one && mv var/one var/lib/two && mv var/lib/two . && ls"
    given: dict[str, Any] = {"level": level, "covered": [str(place.directory / "home"), str(home)]}
    argv = {"argv": ["sh", "-c", f"({script}) 2>&1"]}
    run = place.server.prepare("command", argv, isolation=given, working_dir=str(project))
    (run.directory / "lock").touch(mode=0o600)
    place.own()
    place.server.start(run)
    assert run.wait()["reason"] == "exited", run.describe()
    lines = run.lines("stdout")
    assert [line.rpartition(": ")[2] for line in lines[:2]] == 2 * ["Device or resource busy"], run.describe()
    assert lines[2:] == ["two", "var"]
    assert home.is_dir()


@needs_root
def test_what_is_mounted_in_a_path_to_write_can_be_changed_unless_it_is_covered() -> None:
    with reachable_directory() as directory:
        listed = directory / "listed"
        places = [listed / "hidden" / "deep", listed / "open"]
        for path in places:
            path.mkdir(parents=True)
        mounts = 'mount -t tmpfs none "$0" && mount -t tmpfs none "$1" && shift && exec "$@"'
        place = Place(directory / "place", ("unshare", "-m", "sh", "-c", mounts, *map(str, places)))
        try:
            paths = {"write": [str(listed)], "hide": [str(listed / "hidden")], "keep": [str(place.flow)]}
            found = place.found("sealed", [str(listed), str(listed / "open")], [str(listed / "hidden")], **paths)
            assert set(found["writes"].values()) == {"done"}
            assert found["lists"] == {str(listed / "hidden"): []}
            assert found["in_force"]["missing"] == []
        finally:
            place.server.close()


def test_a_run_that_needs_what_it_must_not_have_is_refused(place: Place) -> None:
    home, hidden = str(place.directory / "home"), str(place.directory / "hidden")
    assert f"{home}/runs, which is in {home}" in place.refusal("private", working_dir=f"{home}/runs")
    assert f"{hidden}/kept, which is in {hidden}" in place.refusal("private", write=[f"{hidden}/kept"])
    assert "the run needs /tmp, in whose place" in place.refusal("private", working_dir="/tmp")
    link = place.directory / "link"
    link.symlink_to(place.directory / "data")
    assert f"which leads to {place.directory}/data" in place.refusal("private", working_dir=str(link))


@needs_root
def test_what_is_covered_is_covered_wherever_it_is_mounted_too(tmp_path: Path) -> None:
    """The fork server has mounts of its own, in which the covered directory, and one in it, can be seen twice."""
    with reachable_directory() as directory:
        (directory / "hidden" / "deep").mkdir(parents=True)
        (directory / "hidden" / "deep" / "file").touch()
        for name in ("alias", "part"):
            (tmp_path / name).mkdir()
        binds = 'mount --bind "$0" "$1" && mount --bind "$0/hidden/deep" "$2" && shift 2 && exec "$@"'
        prefix = ("unshare", "-m", "sh", "-c", binds, str(directory), str(tmp_path / "alias"), str(tmp_path / "part"))
        place = Place(directory / "place", prefix)
        try:
            paths = [str(tmp_path / "alias" / "hidden"), str(tmp_path / "part")]
            mounts = {"hide": [str(directory / "hidden")], "keep": [str(place.flow), str(tmp_path)]}
            assert place.found("private", [], paths, **mounts)["lists"] == {path: [] for path in paths}
        finally:
            place.server.close()


@needs_root
def test_where_namespaces_are_refused_a_run_is_too_unless_it_may_be_weaker() -> None:
    """The fork server is in a user namespace in which no pid namespace can be made."""
    limited = 'echo 0 > /proc/sys/user/max_pid_namespaces && exec "$@"'
    with reachable_directory() as directory:
        place = Place(directory, ("unshare", "--map-root-user", "sh", "-c", limited, "sh"))
        try:
            assert "a pid namespace (this host allows no more namespaces" in place.refusal("private")
            listed = str(directory / "listed")
            weaker = {"if_missing": "weaker", "network": "none", "write": [listed]}
            found = place.found("sealed", [".", listed, "/usr"], [], **weaker)
            assert found["writes"] == {".": "done", listed: "done", "/usr": "EACCES"}
            assert (found["inet"], found["capabilities"]) == ("EAFNOSUPPORT", 0)
            assert (found["in_force"]["level"], found["in_force"]["network"]) == ("none", "none")
            assert found["in_force"]["missing"][0]["what"] == "a pid namespace"
        finally:
            place.server.close()
